//! Child processes: the only file that starts any.
//!
//! Arguments are lists and never pass through a shell. Secrets go by environment, never by argument. The exit
//! status is read before the output counts, and the end of standard error is kept for the message.

use crate::error::{Error, Kind, Result};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// Lines of standard error that are kept.
const KEPT: usize = 20;

/// A program with its arguments and environment.
#[derive(Clone, Debug)]
pub struct Program {
    /// Path or name.
    pub path: PathBuf,
    /// Arguments, one each.
    pub args: Vec<String>,
    /// Additional environment; may hold secrets.
    pub env: Env,
}

/// Environment of a child. Its `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Env(pub Vec<(String, String)>);

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// A running child.
pub struct Running {
    name: String,
    child: Child,
    stderr: tokio::task::JoinHandle<Vec<String>>,
}

impl Program {
    /// A program.
    pub fn new(path: impl Into<PathBuf>, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Program { path: path.into(), args: args.into_iter().map(Into::into).collect(), env: Env::default() }
    }

    /// The same with an environment.
    #[must_use]
    pub fn env(mut self, env: Vec<(String, String)>) -> Self {
        self.env = Env(env);
        self
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.path);
        command
            .args(&self.args)
            .envs(self.env.0.iter().map(|(k, v)| (k, v)))
            .env("LC_ALL", "C.UTF-8")
            .kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command
    }

    fn name(&self) -> String {
        self.path.file_name().map_or_else(|| self.path.display().to_string(), |n| n.to_string_lossy().into_owned())
    }

    fn start(&self, mut command: Command) -> Result<(Running, Pipes)> {
        let name = self.name();
        let mut child = command.spawn().map_err(|e| {
            Error::new(Kind::Source, format!("{name} cannot be started"))
                .at(self.path.display())
                .because(e)
                .hint(format!("Install {name}, or correct its path."))
        })?;
        let pipes = Pipes { stdin: child.stdin.take(), stdout: child.stdout.take() };
        let stderr = child.stderr.take();
        let stderr = tokio::spawn(async move {
            let mut last = VecDeque::new();
            if let Some(stderr) = stderr {
                let mut lines = BufReader::new(stderr).split(b'\n');
                while let Ok(Some(line)) = lines.next_segment().await {
                    if last.len() == KEPT {
                        last.pop_front();
                    }
                    last.push_back(String::from_utf8_lossy(&line[..line.len().min(2000)]).into_owned());
                }
            }
            last.into()
        });
        Ok((Running { name, child, stderr }, pipes))
    }

    /// Starts the program with its output in a pipe.
    pub fn reading(&self) -> Result<(Running, ChildStdout)> {
        let mut command = self.command();
        command.stdout(Stdio::piped());
        let (running, pipes) = self.start(command)?;
        pipes.stdout.map(|out| (running, out)).ok_or_else(|| Error::new(Kind::Internal, "a child has no output"))
    }

    /// Starts the program with its input in a pipe.
    pub fn writing(&self) -> Result<(Running, ChildStdin)> {
        let mut command = self.command();
        command.stdin(Stdio::piped());
        let (running, pipes) = self.start(command)?;
        pipes.stdin.map(|input| (running, input)).ok_or_else(|| Error::new(Kind::Internal, "a child has no input"))
    }

    /// Runs the program to its end and gives its whole output.
    pub async fn output(&self) -> Result<Vec<u8>> {
        let (running, mut stdout) = self.reading()?;
        let mut out = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut stdout, &mut out).await.map_err(|e| {
            Error::new(Kind::Source, format!("the output of {} cannot be read", self.name())).because(e)
        })?;
        running.finish(Kind::Source).await?;
        Ok(out)
    }
}

struct Pipes {
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
}

impl Running {
    /// Waits for the end; anything but exit status 0 is an error with the end of standard error. On success gives
    /// what was printed there, since some tools warn without failing.
    ///
    /// # Errors
    /// Of the kind given.
    pub async fn finish(mut self, kind: Kind) -> Result<Vec<String>> {
        let status = self
            .child
            .wait()
            .await
            .map_err(|e| Error::new(kind, format!("{} cannot be waited for", self.name)).because(e))?;
        let stderr = self.stderr.await.unwrap_or_default();
        if status.success() {
            return Ok(stderr);
        }
        let how = match status.code() {
            Some(code) => format!("exit status {code}"),
            None => format!("{status}"),
        };
        Err(Error::new(kind, format!("{} failed with {how}", self.name)).because(stderr.join("\n")))
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
    fn secrets_in_the_environment_are_not_shown() {
        let program = Program::new("x", ["y"]).env(vec![("PGPASSWORD".into(), "hunter2".into())]);
        assert!(!format!("{program:?}").contains("hunter2"));
    }
}
