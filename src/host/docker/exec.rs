//! A program in a running container, with the streams of a child process.
//!
//! Docker carries all streams over one connection. Output and errors come in frames, which a task sorts; it stops
//! reading when nobody takes the output, so that the program waits as it would before a full pipe. Shutting down
//! the writing half is the end of the program's input: the daemon passes it on.
//!
//! Docker has no way to end such a program. Its process is known, though (`inspect`), and where the daemon is on
//! this machine we hold it by a descriptor (pidfd) from the start and kill it by that, at once and never somebody
//! else. With a daemon elsewhere, a program that is let go sees the end of its input, and its output goes nowhere.

use super::{Docker, failed};
use crate::error::{Error, Kind, Result};
use crate::host::exec::{Input, Output, Started, Streams};
use crate::host::tail::Tail;
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ExecConfig, ExecInspectResponse};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use rustix::process::{Pid, PidfdFlags, Signal, getpgid, kill_process_group, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};
use tokio::io::AsyncWrite;
use tokio::sync::mpsc;

/// Frames of output that wait for the reader; the daemon makes them at most 32 KiB large.
const AHEAD: usize = 8;
/// Bytes of output that are kept to explain a program that could not be started.
const HEAD: usize = 1000;
/// How long the daemon may take to name the process.
const TO_START: Duration = Duration::from_secs(20);
/// How long it may take to notice the end after the streams ended.
const TO_END: Duration = Duration::from_secs(600);

/// A place in a container.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The daemon.
    pub docker: Docker,
    /// Name or id of the running container.
    pub container: String,
    /// User in it (`NAME`, `UID`, `NAME:GROUP`); `None` is the container's own.
    pub user: Option<String>,
    /// Working directory; `None` is the container's own.
    pub dir: Option<String>,
}

impl Inside {
    /// A container with its own user and directory.
    pub fn new(docker: Docker, container: impl Into<String>) -> Self {
        Inside { docker, container: container.into(), user: None, dir: None }
    }
}

/// What the streams told when they ended.
#[derive(Default)]
struct Ended {
    stderr: Vec<String>,
    /// The beginning of the output.
    head: Vec<u8>,
    /// Why they ended before their time.
    cut: Option<String>,
    /// Nobody takes the output any more.
    unread: bool,
}

/// The process on this machine; killed when dropped, with the group that it leads.
struct Held(Option<(OwnedFd, Pid)>);

impl Held {
    fn kill(&self) {
        let Some((process, pid)) = &self.0 else { return };
        // A process that is stopped does not end by itself, so its number cannot pass to another in between. It may be
        // gone already, which is as good.
        if pidfd_send_signal(process, Signal::STOP).is_ok() && getpgid(Some(*pid)) == Ok(*pid) {
            let _ = kill_process_group(*pid, Signal::KILL);
        }
        let _ = pidfd_send_signal(process, Signal::KILL);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running program in a container; killed when dropped.
pub(in crate::host) struct Exec {
    inside: Inside,
    id: String,
    held: Held,
    streams: tokio::task::JoinHandle<Ended>,
}

impl Exec {
    pub(in crate::host) async fn start(
        inside: &Inside,
        argv: Vec<String>,
        env: Vec<String>,
        wanted: Streams,
    ) -> Result<Started<Exec>> {
        let name = argv.first().cloned().unwrap_or_default();
        let what = || format!("{name} cannot be started in container {}", inside.container);
        let api = &inside.docker.api;
        let config = ExecConfig {
            attach_stdin: Some(wanted.input),
            attach_stdout: Some(wanted.output),
            attach_stderr: Some(true),
            tty: Some(false),
            env: Some(env),
            cmd: Some(argv),
            user: inside.user.clone(),
            working_dir: inside.dir.clone(),
            ..ExecConfig::default()
        };
        let id = api.create_exec(super::checked(&inside.container)?, config).await.map_err(failed(what()))?.id;
        // Frames are taken whole; more room saves copies.
        let options = StartExecOptions { output_capacity: Some(64 * 1024), ..StartExecOptions::default() };
        let StartExecResults::Attached { output: frames, input } =
            api.start_exec(&id, Some(options)).await.map_err(failed(what()))?
        else {
            return Err(Error::new(Kind::Internal, what()).because("it was started detached"));
        };
        let (sender, receiver) = mpsc::channel(AHEAD);
        let streams = tokio::spawn(sort(frames, wanted.output.then_some(sender)));
        let held = Held(hold(inside, &id).await);
        let exec = Exec { inside: inside.clone(), id, held, streams };
        let output = wanted.output.then(|| Box::new(tokio_util::io::StreamReader::new(Frames(receiver))) as Output);
        let input = wanted.input.then(|| Box::new(Stdin(input)) as Input);
        Ok(Started { running: exec, input, output })
    }

    /// Exit status and the end of standard error.
    pub(in crate::host) async fn finish(mut self, name: &str) -> Result<(i64, Vec<String>)> {
        let place = format!("container {}", self.inside.container);
        let ended = (&mut self.streams).await.unwrap_or_default();
        if ended.unread {
            // On this machine it would have got SIGPIPE.
            self.held.kill();
        }
        let lost =
            |e: Error| e.at(place.clone()).hint("Look whether the container still runs, and into the daemon's log.");
        let state = self.exit().await.map_err(|e| {
            lost(Error::new(Kind::Source, format!("how {name} ended is unknown")).because(e.one_line()))
        })?;
        let code = state
            .exit_code
            .filter(|_| state.running != Some(true))
            .ok_or_else(|| lost(Error::new(Kind::Source, format!("{name} let go of its output and goes on"))))?;
        if let (0, Some(why)) = (code, ended.cut) {
            return Err(lost(Error::new(Kind::Source, format!("the connection to {name} broke")).because(why)));
        }
        let mut stderr = ended.stderr;
        if ended.unread {
            stderr.push("its output was not read to the end".to_owned());
        } else if matches!(code, 126 | 127) && stderr.is_empty() {
            // Why a program could not be started is told in place of its output.
            stderr.push(String::from_utf8_lossy(&ended.head).trim_end().to_owned());
        }
        Ok((code, stderr))
    }

    /// The streams end a moment before the daemon knows the exit status.
    async fn exit(&self) -> Result<ExecInspectResponse> {
        wait_until(&self.inside, &self.id, TO_END, |state| state.running != Some(true)).await
    }
}

impl Drop for Exec {
    fn drop(&mut self) {
        self.streams.abort();
    }
}

/// Asks for the state until it is what is awaited, or the time is over; gives the last one.
async fn wait_until(
    inside: &Inside,
    id: &str,
    limit: Duration,
    enough: impl Fn(&ExecInspectResponse) -> bool,
) -> Result<ExecInspectResponse> {
    let started = Instant::now();
    let mut pause = Duration::from_millis(2);
    loop {
        let state = inside.docker.api.inspect_exec(id).await.map_err(failed("the program cannot be looked at"))?;
        if enough(&state) || started.elapsed() > limit {
            return Ok(state);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(250));
    }
}

/// A descriptor of the process, when it is one of this machine.
async fn hold(inside: &Inside, id: &str) -> Option<(OwnedFd, Pid)> {
    let known = |s: &ExecInspectResponse| s.pid.unwrap_or(0) > 0 || s.exit_code.is_some();
    let state = wait_until(inside, id, TO_START, known).await.ok()?;
    let pid = Pid::from_raw(i32::try_from(state.pid?).ok()?)?;
    let process = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // Opened first and looked at then: the number cannot have passed to another process in between.
    let cgroup = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    cgroup.contains(&state.container_id?).then_some((process, pid))
}

async fn sort(
    mut frames: Pin<Box<dyn Stream<Item = std::result::Result<LogOutput, bollard::errors::Error>> + Send>>,
    output: Option<mpsc::Sender<io::Result<Bytes>>>,
) -> Ended {
    let mut ended = Ended::default();
    let mut stderr = Tail::default();
    while let Some(frame) = frames.next().await {
        let why = match frame {
            Ok(LogOutput::StdErr { message }) => {
                stderr.push(&message);
                continue;
            }
            Ok(LogOutput::StdOut { message }) => {
                let room = HEAD.saturating_sub(ended.head.len());
                ended.head.extend_from_slice(&message[..message.len().min(room)]);
                if let Some(output) = &output
                    && output.send(Ok(message)).await.is_err()
                {
                    ended.unread = true;
                    break;
                }
                continue;
            }
            // What is in no frame is the rest of a broken one.
            Ok(_) => "the output ended within a frame".to_owned(),
            Err(e) => e.to_string(),
        };
        if let Some(output) = &output {
            // Not even a caller who forgets the exit status takes half of it for the whole.
            let _ = output.send(Err(io::Error::other(why.clone()))).await;
        }
        ended.cut = Some(why);
        break;
    }
    ended.stderr = stderr.lines();
    ended
}

struct Frames(mpsc::Receiver<io::Result<Bytes>>);

impl Stream for Frames {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// The writing half. A pipe that is dropped is closed; this one has to be told, since the reading half lives on.
struct Stdin(Pin<Box<dyn AsyncWrite + Send>>);

impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.as_mut().poll_shutdown(cx)
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        // Shutting a socket down never waits, and nothing is buffered on our side.
        let _ = self.0.as_mut().poll_shutdown(&mut Context::from_waker(Waker::noop()));
    }
}
