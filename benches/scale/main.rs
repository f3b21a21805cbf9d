//! What commands cost on a vault of a given size, measured on a synthetic one. A developer's tool:
//!
//! ```text
//! cargo bench --bench scale -- --files 1000000 --backups 100
//! ```
//!
//! The vault is *forged*: its manifests and segments are real, made by the library's own encoders and sealed as always,
//! but nothing is read, and a pack is a file of the right name and size without blocks. So 10 TB fit on any disk, and
//! everything but the content of packs can be measured. Each command then runs in a process of its own, against a
//! store that counts requests and can be made slow (`--latency-ms`, per request). Sizes are in `docs/scale.md`.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod counting;
mod forge;

use backstay::error::{Error, Kind, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// The size of the vault, and where it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Shape {
    /// Files in each backup.
    pub files: u64,
    /// Backups.
    pub backups: u64,
    /// Bytes of one file; below the size at which files are cut into chunks.
    pub file_bytes: u64,
    /// Share of the files that differs between two backups.
    pub change: f64,
    /// Places of the tree in which the changed files lie.
    pub places: u64,
    /// Time that each request takes on top.
    pub latency_ms: u64,
    /// Working folder.
    pub dir: PathBuf,
}

/// What one command cost.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Cost {
    seconds: f64,
    /// Peak of the resident memory.
    rss_kib: u64,
    put: u64,
    get: u64,
    list: u64,
    delete: u64,
    /// stat, folders and the store's clock.
    other: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// What the command found, in words.
    said: String,
}

/// Assumed prices in one currency: those that a provider publishes belong here.
struct Prices {
    /// A thousand writes or listings.
    put: f64,
    /// A thousand reads.
    get: f64,
    /// A gigabyte for a month.
    gb_month: f64,
}

struct Run {
    shape: Shape,
    prices: Prices,
    keep: bool,
    command_line: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first().map(String::as_str) {
        Some("child") => commands::child(&args[1..]),
        _ => parse(&args).and_then(|run| parent(&run)),
    };
    if let Err(e) = result {
        eprintln!("scale: {e}");
        std::process::exit(1);
    }
}

fn usage(what: String) -> Error {
    Error::new(Kind::Usage, what).hint("Options: --files N --backups N --file-bytes N --change SHARE --places N --latency-ms N --dir DIR --price-put X --price-get X --price-gb X --no-command-line --keep")
}

fn parse(args: &[String]) -> Result<Run> {
    let mut run = Run {
        shape: Shape {
            files: 100_000,
            backups: 20,
            file_bytes: 1_000_000,
            change: 0.001,
            places: 20,
            latency_ms: 0,
            dir: PathBuf::from("/var/tmp").join(format!("backstay-scale.{}", std::process::id())),
        },
        prices: Prices { put: 0.005, get: 0.0004, gb_month: 0.023 },
        keep: false,
        command_line: true,
    };
    let mut args = args.iter();
    while let Some(option) = args.next() {
        let mut value = || args.next().ok_or_else(|| usage(format!("{option} needs a value")));
        fn number<T: std::str::FromStr>(text: &str) -> Result<T> {
            text.replace('_', "").parse().map_err(|_| usage(format!("{text} is not a number")))
        }
        match option.as_str() {
            // Cargo gives this to every bench.
            "--bench" => {}
            "--files" => run.shape.files = number(value()?)?,
            "--backups" => run.shape.backups = number(value()?)?,
            "--file-bytes" => run.shape.file_bytes = number(value()?)?,
            "--change" => run.shape.change = number(value()?)?,
            "--places" => run.shape.places = number(value()?)?,
            "--latency-ms" => run.shape.latency_ms = number(value()?)?,
            "--dir" => run.shape.dir = PathBuf::from(value()?),
            "--price-put" => run.prices.put = number(value()?)?,
            "--price-get" => run.prices.get = number(value()?)?,
            "--price-gb" => run.prices.gb_month = number(value()?)?,
            "--no-command-line" => run.command_line = false,
            "--keep" => run.keep = true,
            other => return Err(usage(format!("{other} is not known"))),
        }
    }
    if run.shape.file_bytes >= 1 << 20 || run.shape.backups == 0 || run.shape.files < run.shape.places.max(1) {
        return Err(usage("files must be below 1 MiB, and there must be a backup and a file per place".into()));
    }
    Ok(run)
}

/// The commands in their order; each may change the vault for those behind it.
const STEPS: [(&str, &str); 14] = [
    ("list-cold", "list, first on a machine"),
    ("list", "list, later"),
    ("show", "show latest"),
    ("unchanged", "backup, nothing changed"),
    ("changed", "backup, changed"),
    ("unchanged-cold", "backup, nothing changed, empty cache"),
    ("check", "check"),
    ("restore", "restore one file"),
    ("prune-dry-cold", "prune --dry-run, empty cache"),
    ("prune-dry", "prune --dry-run"),
    ("forget", "forget the older half"),
    ("condemn", "prune, condemns"),
    ("unchanged", "backup, nothing changed, with those records"),
    ("delete", "prune, deletes (after the grace time)"),
];

fn parent(run: &Run) -> Result<()> {
    let shape = &run.shape;
    let started = Instant::now();
    std::fs::create_dir_all(&shape.dir).map_err(|e| Error::io("cannot make the working folder", &shape.dir, e))?;
    let forged = child(shape, "forge")?;
    eprintln!("forged in {:.0} s: {}", started.elapsed().as_secs_f64(), forged.said);
    println!(
        "{} files of {} bytes ({}), {} backups, {} % of the files changed between two, in {} places; {} ms per request.\n{}.\n",
        shape.files,
        shape.file_bytes,
        backstay::model::size::human(shape.files * shape.file_bytes),
        shape.backups,
        shape.change * 100.0,
        shape.places,
        shape.latency_ms,
        forged.said
    );
    println!(
        "| command | wall s | peak RSS MiB | put | get | list | delete | other | MiB in | MiB out | requests cost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (step, words) in STEPS {
        if step == "list" {
            // What is measured is the second look: the first one has filled the cache of this host.
            child(shape, step)?;
        }
        let c = child(shape, step)?;
        eprintln!("{words}: {:.1} s, {} MiB: {}", c.seconds, c.rss_kib / 1024, c.said);
        let price = ((c.put + c.list) as f64 * run.prices.put + (c.get + c.other) as f64 * run.prices.get) / 1000.0;
        println!(
            "| {words} | {:.2} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {price:.4} |",
            c.seconds,
            c.rss_kib / 1024,
            c.put,
            c.get,
            c.list,
            c.delete,
            c.other,
            c.bytes_in as f64 / 1048576.0,
            c.bytes_out as f64 / 1048576.0
        );
        // The program itself on the same vault: what tables and options add.
        if run.command_line
            && let Some(args) = program_args(step)
        {
            let (seconds, rss_kib) = program(&shape.dir, args)?;
            println!("| `backstay {}` | {seconds:.2} | {} | | | | | | | | |", args.join(" "), rss_kib / 1024);
        }
    }
    let stored = forge::nominal(shape) as f64 / 1e9;
    println!(
        "\nAssumed prices: {} for 1,000 writes or listings, {} for 1,000 reads, {} for a GB and month; deletes are free. The vault holds {stored:.0} GB by its records: {:.2} a month.",
        run.prices.put,
        run.prices.get,
        run.prices.gb_month,
        stored * run.prices.gb_month
    );
    if !run.keep {
        std::fs::remove_dir_all(&shape.dir).map_err(|e| Error::io("cannot remove", &shape.dir, e))?;
    }
    eprintln!("all of it took {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn child(shape: &Shape, step: &str) -> Result<Cost> {
    let bad = |e: serde_json::Error| Error::new(Kind::Internal, "a child's words are not understood").because(e);
    let this = std::env::current_exe().map_err(|e| Error::io("cannot find", Path::new("this program"), e))?;
    let output = Command::new(this)
        .args(["child", step, &serde_json::to_string(shape).map_err(bad)?])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|e| Error::io("cannot run", Path::new(step), e))?;
    if !output.status.success() {
        return Err(Error::new(Kind::Internal, format!("{step} failed")));
    }
    serde_json::from_slice(&output.stdout).map_err(bad)
}

fn program_args(step: &str) -> Option<&'static [&'static str]> {
    Some(match step {
        "list" => &["list"],
        "show" => &["show"],
        "check" => &["check"],
        "prune-dry" => &["prune", "--dry-run"],
        _ => return None,
    })
}

/// Seconds and peak RSS of the real program.
fn program(dir: &Path, args: &[&str]) -> Result<(f64, u64)> {
    let failed = |e| Error::io("cannot run", Path::new("/usr/bin/time"), e);
    let figures = dir.join("time");
    let status = Command::new("/usr/bin/time")
        .args(["-f", "%e %M", "-o"])
        .arg(&figures)
        .arg(env!("CARGO_BIN_EXE_backstay"))
        .arg("-q")
        .args(args)
        .env("BACKSTAY_CONFIG", dir.join("backstay.toml"))
        .stdout(Stdio::null())
        .status()
        .map_err(failed)?;
    let text = std::fs::read_to_string(&figures).map_err(failed)?;
    let mut numbers = text.lines().last().unwrap_or_default().split(' ');
    match (status.success(), numbers.next().and_then(|n| n.parse().ok()), numbers.next().and_then(|n| n.parse().ok())) {
        (true, Some(seconds), Some(kib)) => Ok((seconds, kib)),
        _ => Err(Error::new(Kind::Internal, format!("backstay {} failed", args.join(" ")))),
    }
}
