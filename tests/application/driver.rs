//! A restore that consists of the steps of the application, with a journal, run in another process: within a machine,
//! or beside a daemon of its own. Between them are gates, which stand for the data: they run scripts, wait to be let through, or
//! fail.

use async_trait::async_trait;
use backstay::error::{Error, Kind, Result};
use backstay::model::BackupId;
use backstay::recovery::application::Application;
use backstay::recovery::engine::{Ended, Engine, Notes, Step};
use backstay::recovery::journal::{Begin, Journal};
use backstay::recovery::resource::Note;
use backstay::telemetry::monitor::{Event, Monitor};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Tells the process what to do.
const VARIABLE: &str = "BACKSTAY_TEST_DRIVES";
/// The test that is the process.
const NAME: &str = "driver::what_runs_in_the_other_process";

/// What the process does.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Drive {
    pub application: Application,
    /// `preflight`, `restore`, `resume`, `unwind`.
    pub go: String,
    /// A folder for the journal and the gates.
    pub folder: PathBuf,
    /// Between hold and stop.
    pub held: Gate,
    /// Between stop and start.
    pub swap: Gate,
    /// Between start and the late start.
    pub check: Gate,
    /// Whether every act and every undo happens twice.
    pub twice: bool,
    /// Users of a resource, for `preflight`.
    pub users: Vec<String>,
}

/// A step that stands for others.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Gate {
    /// Whether it waits for the file `NAME.go` in the folder.
    pub waits: bool,
    pub fails: bool,
    /// Scripts.
    pub act: String,
    pub undo: String,
}

impl Drive {
    pub fn of(stop: &[&str], late: &[&str]) -> Self {
        let targets = |names: &[&str]| names.iter().map(|n| n.parse().unwrap()).collect();
        let application = Application { stop: targets(stop), start_after_checks: targets(late), spare: Vec::new() };
        Drive { application, go: "restore".into(), folder: "/var/lib/backstay".into(), ..Drive::default() }
    }

    pub fn spare(mut self, spare: &[&str]) -> Self {
        self.application.spare = spare.iter().map(|s| (*s).to_owned()).collect();
        self
    }

    /// The same restore, gone on with otherwise.
    pub fn then(&self, go: &str) -> Self {
        let open = |gate: &Gate| Gate { waits: false, ..gate.clone() };
        Drive {
            go: go.into(),
            held: open(&self.held),
            swap: open(&self.swap),
            check: open(&self.check),
            ..self.clone()
        }
    }

    /// In a machine.
    pub fn within(&self, machine: &crate::machine::Machine) -> Driven {
        let json = serde_json::to_string(self).unwrap();
        Driven::start(machine.test(NAME, (VARIABLE, &json)))
    }

    /// Beside us, with a daemon.
    pub fn beside(&self, docker_host: &str) -> Driven {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", NAME, "--nocapture"]).env("DOCKER_HOST", docker_host);
        command.env(VARIABLE, serde_json::to_string(self).unwrap()).stdin(Stdio::null());
        Driven::start(command)
    }
}

/// The other process.
pub struct Driven {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
    seen: String,
}

impl Driven {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = std::sync::mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                let _ = sender.send(line);
            }
        });
        Driven { child, lines, seen: String::new() }
    }

    /// Reads on until a line says this.
    #[track_caller]
    pub fn until(&mut self, said: &str) {
        let started = Instant::now();
        loop {
            match self.lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => {
                    self.seen.push_str(&line);
                    self.seen.push('\n');
                    if line.contains(said) {
                        return;
                    }
                }
                Err(_) => assert!(
                    started.elapsed() < Duration::from_secs(60) && self.child.try_wait().unwrap().is_none(),
                    "{said:?} is not said:\n{}",
                    self.seen
                ),
            }
        }
    }

    /// Ends it at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whatever it said, when it has ended.
    #[track_caller]
    pub fn end(mut self) -> String {
        let mut err = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.lines.recv_timeout(Duration::from_secs(5)) {
            self.seen.push_str(&line);
            self.seen.push('\n');
        }
        assert!(status.success(), "{}\n{err}", self.seen);
        self.seen
    }

    /// Fails the test unless it ends and has said all of this.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> String {
        let said = self.end();
        for word in words {
            assert!(said.contains(word), "{word:?} is not said in:\n{said}");
        }
        said
    }
}

struct Printer;

impl Monitor for Printer {
    #[allow(clippy::print_stdout)]
    fn event(&self, event: Event) {
        match event {
            Event::Warning(text) => println!("WARNING {text}"),
            Event::Stage(text) => println!("STAGE {text}"),
            _ => {}
        }
    }
}

struct Passage {
    name: &'static str,
    gate: Gate,
    folder: PathBuf,
}

fn script(text: &str) -> Result<()> {
    let status = Command::new("sh").args(["-euc", text]).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(Error::new(Kind::Restore, format!("the script {text} failed: {other:?}"))),
    }
}

#[async_trait]
impl Step for Passage {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    async fn prepare(&self, _: &Notes<'_>) -> Result<Note> {
        Ok(Note::Null)
    }

    #[allow(clippy::print_stdout)]
    async fn act(&self, _: &Note) -> Result<Note> {
        script(&self.gate.act)?;
        if self.gate.waits {
            println!("WAITING at {}", self.name);
            while !self.folder.join(format!("{}.go", self.name)).exists() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        if self.gate.fails {
            Err(Error::new(Kind::Restore, format!("the {} fails", self.name)))
        } else {
            Ok(Note::Null)
        }
    }

    async fn undo(&self, _: &Note) -> Result<()> {
        script(&self.gate.undo)
    }

    fn by_hand(&self, _: &Note) -> Vec<String> {
        vec![self.gate.undo.clone()]
    }
}

/// Every effect twice.
struct Twice(Box<dyn Step>);

#[async_trait]
impl Step for Twice {
    fn name(&self) -> String {
        self.0.name()
    }

    async fn prepare(&self, notes: &Notes<'_>) -> Result<Note> {
        self.0.prepare(notes).await
    }

    async fn act(&self, note: &Note) -> Result<Note> {
        self.0.act(note).await?;
        self.0.act(note).await
    }

    async fn undo(&self, note: &Note) -> Result<()> {
        self.0.undo(note).await?;
        self.0.undo(note).await
    }

    fn by_hand(&self, note: &Note) -> Vec<String> {
        self.0.by_hand(note)
    }
}

fn steps(drive: &Drive) -> Vec<Box<dyn Step>> {
    let monitor: Arc<dyn Monitor> = Arc::new(Printer);
    let gate = |name, gate: &Gate| {
        Box::new(Passage { name, gate: gate.clone(), folder: drive.folder.clone() }) as Box<dyn Step>
    };
    let a = &drive.application;
    let steps = vec![
        a.hold(monitor.clone()),
        gate("held", &drive.held),
        a.stop(monitor.clone()),
        gate("swap", &drive.swap),
        a.start(monitor.clone()),
        gate("check", &drive.check),
        a.start_after_checks(monitor),
    ];
    let twice = |step| Box::new(Twice(step)) as Box<dyn Step>;
    if drive.twice { steps.into_iter().map(twice).collect() } else { steps }
}

fn journal(path: &Path, drive: &Drive, steps: &[Box<dyn Step>]) -> Journal {
    if drive.go != "restore" {
        return Journal::open(path).unwrap();
    }
    let id = BackupId::new(Timestamp::now());
    let names = steps.iter().map(|s| s.name()).collect();
    let asked = serde_json::json!({});
    let begin = Begin { id: id.clone(), plan: "erp".parse().unwrap(), backup: id, asked, steps: names };
    let _ = std::fs::remove_file(path);
    Journal::begin(path, begin).unwrap()
}

#[allow(clippy::print_stdout)]
async fn run(drive: Drive) {
    if drive.go == "preflight" {
        match drive.application.preflight().await {
            Ok(snapshot) => {
                println!("LINES\n{}\nEND", snapshot.lines().join("\n"));
                println!("SPARED {:?}", snapshot.spared);
                for user in &drive.users {
                    println!("COVERS {user} {}", snapshot.covers(user));
                }
            }
            Err(e) => println!("{:?} {e}", e.kind),
        }
        return;
    }
    let steps = steps(&drive);
    let journal = journal(&drive.folder.join("restore.journal"), &drive, &steps);
    let mut engine = Engine::new(steps, journal, Arc::new(Printer)).unwrap();
    let ended = match drive.go.as_str() {
        "unwind" => engine.go_back("asked for").await,
        _ => engine.run().await,
    };
    match ended.unwrap() {
        Ended::Committed => println!("COMMITTED"),
        Ended::Unwound(e) => println!("UNWOUND {e}"),
        Ended::Stuck { failed, step, error, left } => {
            println!("STUCK at {step}: {error}\nafter {failed}\n{}", left.join("\n"));
        }
    }
}

#[test]
fn what_runs_in_the_other_process() {
    // Among the other tests it does nothing.
    let Ok(text) = std::env::var(VARIABLE) else { return };
    let drive: Drive = serde_json::from_str(&text).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(run(drive));
}
