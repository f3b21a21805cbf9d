//! Child processes: the only file that starts any, on this machine or in a container.
//!
//! Arguments are lists and never pass through a shell. Secrets go by environment, never by argument. The exit
//! status is read before the output counts, and the end of standard error is kept for the message. Where a program
//! runs is its [`Place`]; the rest is the same everywhere. Dropping a [`Running`] kills the process.

use super::docker::exec::{Exec, Inside};
use super::tail::Tail;
use crate::error::{Error, Kind, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::process::{Child, Command};

/// The output of a program.
pub type Output = Box<dyn AsyncRead + Send + Unpin>;
/// The input of a program. Shutting it down, or dropping it, is the end of the input.
pub type Input = Box<dyn AsyncWrite + Send + Unpin>;

/// Where a program runs.
#[derive(Clone, Debug, Default)]
pub enum Place {
    /// On this machine, as we are.
    #[default]
    Host,
    /// On this machine, as another user of it, with his groups and without our environment.
    User(String),
    /// In a container.
    Container(Inside),
}

/// What a program of the operator's gets of our environment. The rest may hold our secrets.
const HANDED_OVER: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "TZ", "TMPDIR"];

/// A program with its arguments and environment.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path or name.
    pub path: PathBuf,
    /// Arguments, one each.
    pub args: Vec<String>,
    /// Additional environment; may hold secrets.
    pub env: Env,
    /// Where it runs.
    pub place: Place,
    /// Working directory; `None` is that of the place.
    dir: Option<PathBuf>,
    /// True when it is not one that we know.
    foreign: bool,
}

/// Environment of a child. Its `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Env(pub Vec<(String, String)>);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Which of its streams we hold.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Streams {
    /// Standard input; else it is empty.
    pub input: bool,
    /// Standard output; else it goes nowhere.
    pub output: bool,
}

/// What was started, with the streams that were asked for.
pub(super) struct Started<T> {
    pub running: T,
    pub input: Option<Input>,
    pub output: Option<Output>,
}

enum Process {
    Child(Leader, tokio::task::JoinHandle<Vec<String>>),
    Exec(Exec),
}

/// A child, which may lead a process group of its own. Dropping it kills the group.
struct Leader {
    child: Child,
    group: bool,
}

impl Drop for Leader {
    fn drop(&mut self) {
        // It has a number as long as nobody has waited for it, so this is nobody else's group.
        let pid = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(pid) = pid.filter(|_| self.group) {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// A running program; killed when dropped.
pub struct Running {
    name: String,
    process: Process,
}

impl Program {
    /// A program on this machine.
    pub fn new(path: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Program {
            path: path.into(),
            args: args.into_iter().map(Into::into).collect(),
            env: Env::default(),
            place: Place::Host,
            dir: None,
            foreign: false,
        }
    }

    /// The same with an environment.
    #[must_use]
    pub fn env(mut self, env: Vec<(String, String)>) -> Self {
        self.env = Env(env);
        self
    }

    /// The same somewhere else.
    #[must_use]
    pub fn at(mut self, place: Place) -> Self {
        self.place = place;
        self
    }

    /// The same in another working directory.
    #[must_use]
    pub fn in_dir(mut self, dir: Option<PathBuf>) -> Self {
        self.dir = dir;
        self
    }

    /// The same as a program of the operator's: of our environment it gets what every program needs and nothing that
    /// may be a secret, and what it starts ends when it is killed.
    #[must_use]
    pub fn foreign(mut self) -> Self {
        self.foreign = true;
        self
    }

    fn name(&self) -> String {
        self.path.file_name().map_or_else(|| self.path.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    async fn command(&self) -> Result<Command> {
        let mut command = match &self.place {
            Place::User(user) => {
                let user = super::user::find(user).await?;
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={}", user.uid))
                    .arg(format!("--regid={}", user.gid))
                    .args(["--init-groups", "--"])
                    .arg(&self.path)
                    // Ours may hold secrets, and a process's environment is open to its user.
                    .env_clear()
                    .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
                    .envs([("USER", &user.name), ("LOGNAME", &user.name), ("HOME", &user.home)])
                    .current_dir("/");
                command
            }
            _ => {
                let mut command = Command::new(&self.path);
                if self.foreign {
                    let kept = HANDED_OVER.iter().filter_map(|name| Some((name, std::env::var_os(name)?)));
                    command.env_clear().envs(kept);
                }
                command
            }
        };
        if self.foreign {
            command.process_group(0);
        }
        if let Some(dir) = &self.dir {
            // The error of the start would be that of a missing program.
            if !dir.is_dir() {
                return Err(Error::new(Kind::Source, format!("the working directory of {} is not there", self.name()))
                    .at(dir.display()));
            }
            command.current_dir(dir);
        }
        command
            .args(&self.args)
            .env("LC_ALL", "C.UTF-8")
            .envs(self.env.0.iter().map(|(k, v)| (k, v)))
            .kill_on_drop(true);
        Ok(command)
    }

    /// Its environment in a container. The last of a name counts, as on this machine: of two that came there nobody knows
    /// which one a program takes.
    fn variables(&self) -> Vec<String> {
        let mut all = BTreeMap::from([("LC_ALL", "C.UTF-8")]);
        all.extend(self.env.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        all.iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    async fn start(&self, streams: Streams) -> Result<Started<Running>> {
        let name = self.name();
        if let Place::Container(inside) = &self.place {
            let mut argv = vec![self.path.to_string_lossy().into_owned()];
            argv.extend_from_slice(&self.args);
            let env = self.variables();
            let dir = self.dir.as_ref().map(|dir| dir.display().to_string());
            let inside = Inside { dir: dir.or_else(|| inside.dir.clone()), ..inside.clone() };
            let Started { running, input, output } = Exec::start(&inside, argv, env, streams).await?;
            return Ok(Started { running: Running { name, process: Process::Exec(running) }, input, output });
        }
        let pipe = |wanted: bool| if wanted { Stdio::piped() } else { Stdio::null() };
        let mut command = self.command().await?;
        command.stdin(pipe(streams.input)).stdout(pipe(streams.output)).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| {
            let program = command.as_std().get_program().to_string_lossy().into_owned();
            Error::new(Kind::Source, format!("{program} cannot be started"))
                .at(self.path.display())
                .because(e)
                .hint(format!("Install {program}, or correct its path."))
        })?;
        let input = child.stdin.take().map(|input| Box::new(input) as Input);
        let output = child.stdout.take().map(|output| Box::new(output) as Output);
        let stderr = child.stderr.take();
        let stderr = tokio::spawn(async move {
            match stderr {
                Some(stderr) => Tail::of(stderr).await,
                None => Vec::new(),
            }
        });
        let process = Process::Child(Leader { child, group: self.foreign }, stderr);
        Ok(Started { running: Running { name, process }, input, output })
    }

    /// Starts the program with its output in a pipe.
    pub async fn reading(&self) -> Result<(Running, Output)> {
        let started = self.start(Streams { output: true, ..Streams::default() }).await?;
        Ok((started.running, held(started.output)?))
    }

    /// Starts the program with its input in a pipe. Its output goes nowhere.
    pub async fn writing(&self) -> Result<(Running, Input)> {
        let started = self.start(Streams { input: true, ..Streams::default() }).await?;
        Ok((started.running, held(started.input)?))
    }

    /// Starts the program with both in pipes. Whoever writes much must read meanwhile.
    pub async fn duplex(&self) -> Result<(Running, Input, Output)> {
        let started = self.start(Streams { input: true, output: true }).await?;
        Ok((started.running, held(started.input)?, held(started.output)?))
    }

    /// Starts the program with nothing on its input. Its output goes nowhere.
    pub async fn alone(&self) -> Result<Running> {
        Ok(self.start(Streams::default()).await?.running)
    }

    /// Runs the program to its end and gives its whole output.
    pub async fn output(&self) -> Result<Vec<u8>> {
        let (running, mut stdout) = self.reading().await?;
        let mut out = Vec::new();
        stdout.read_to_end(&mut out).await.map_err(|e| {
            Error::new(Kind::Source, format!("the output of {} cannot be read", self.name())).because(e)
        })?;
        running.finish(Kind::Source).await?;
        Ok(out)
    }
}

fn held<T>(stream: Option<T>) -> Result<T> {
    stream.ok_or_else(|| Error::new(Kind::Internal, "a program was started without the stream that was asked for"))
}

/// How a program ended.
#[derive(Debug)]
pub struct Ended {
    /// Its exit status; `None` when a signal ended it.
    pub code: Option<i64>,
    /// The same in words.
    pub how: String,
    /// The end of its standard error.
    pub stderr: Vec<String>,
}

impl Running {
    /// Waits for the end; anything but exit status 0 is an error with the end of standard error. On success gives
    /// what was printed there, since some tools warn without failing. Let go of the input before, or the program
    /// may wait for more of it.
    ///
    /// # Errors
    /// Of the kind given.
    pub async fn finish(self, kind: Kind) -> Result<Vec<String>> {
        let name = self.name.clone();
        let Ended { code, how, stderr } = self.ended(kind).await?;
        match code {
            Some(0) => Ok(stderr),
            _ => Err(Error::new(kind, format!("{name} failed with {how}")).because(stderr.join("\n"))),
        }
    }

    /// Waits for the end, for callers who know what to make of the exit status.
    ///
    /// # Errors
    /// Of the kind given, when it cannot be told how it ended.
    pub async fn ended(self, kind: Kind) -> Result<Ended> {
        let name = self.name;
        match self.process {
            Process::Child(mut leader, stderr) => {
                // Who still holds this is one whom it started, and can be killed with it only while nobody has waited.
                let stderr = stderr.await.unwrap_or_default();
                let status = leader
                    .child
                    .wait()
                    .await
                    .map_err(|e| Error::new(kind, format!("{name} cannot be waited for")).because(e))?;
                let how = status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"));
                Ok(Ended { code: status.code().map(i64::from), how, stderr })
            }
            Process::Exec(exec) => {
                let (code, stderr) = exec.finish(&name).await.map_err(|e| e.kind(kind))?;
                Ok(Ended { code: Some(code), how: format!("exit status {code}"), stderr })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_exit_status_counts_and_stderr_explains() {
        let e = Program::new("sh", ["-c", "echo out; echo reason >&2; exit 3"]).output().await.unwrap_err();
        assert!(e.to_string().contains("exit status 3") && e.to_string().contains("reason"), "{e}");
        assert_eq!(Program::new("echo", ["a b"]).output().await.unwrap(), b"a b\n");
        assert_eq!(Program::new("/nowhere/tool", ["x"]).output().await.unwrap_err().kind, Kind::Source);
    }

    #[test]
    fn the_last_of_a_name_counts_in_a_container_too() {
        let given = [("PGOPTIONS", "-c a=1"), ("PGHOST", "db"), ("PGOPTIONS", "-c a=2")];
        let env = given.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        let program = Program::new("psql", ["-X"]).env(env);
        assert_eq!(program.variables(), ["LC_ALL=C.UTF-8", "PGHOST=db", "PGOPTIONS=-c a=2"]);
    }

    #[test]
    fn secrets_in_the_environment_are_not_shown() {
        let program = Program::new("x", ["y"]).env(vec![("PGPASSWORD".into(), "hunter2".into())]);
        assert!(!format!("{program:?}").contains("hunter2"));
    }
}
