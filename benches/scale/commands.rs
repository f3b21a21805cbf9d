//! The commands: each does what `src/cli` does, less options and tables.

use super::counting::{Counting, Counts};
use super::forge::{self, HOST, MACHINE, PLAN, SOURCE};
use super::{Cost, Shape};
use backstay::error::{Error, Kind, Result};
use backstay::model::Name;
use backstay::model::size::{human, plural};
use backstay::recovery::{select, tree};
use backstay::repository::access;
use backstay::repository::catalog::Catalog;
use backstay::repository::check::{self, Depth};
use backstay::repository::damage;
use backstay::repository::layout;
use backstay::repository::marks;
use backstay::repository::prune::{self, PruneOptions};
use backstay::repository::reader::Reader;
use backstay::repository::record::RecordKind;
use backstay::repository::retention::{self, Keep, Respect};
use backstay::repository::segment::{Bytes, FileEntry, FileType};
use backstay::repository::writer::{ArtifactWriter, BackupWriter, Outcome, WriterOptions};
use backstay::storage::open::{StorageOptions, open};
use backstay::telemetry::monitor::Silent;
use jiff::{SignedDuration, Timestamp};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// Runs one command and prints what it cost.
pub fn child(args: &[String]) -> Result<()> {
    let bad = |e| Error::new(Kind::Internal, "the shape is not understood").because(e);
    let [step, shape] = args else { return Err(Error::new(Kind::Internal, "a child is called by its parent")) };
    let shape: Shape = serde_json::from_str(shape).map_err(|e: serde_json::Error| bad(e))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Kind::Internal, "the runtime cannot be started").because(e))?;
    let counts = Arc::new(Counts::default());
    let begun = Instant::now();
    let said = runtime.block_on(run(step, &shape, counts.clone()))?;
    let seconds = begun.elapsed().as_secs_f64();
    let n = |c: &std::sync::atomic::AtomicU64| c.load(Ordering::Relaxed);
    let cost = Cost {
        seconds,
        rss_kib: peak(),
        put: n(&counts.put),
        get: n(&counts.get),
        list: n(&counts.list),
        delete: n(&counts.delete),
        other: n(&counts.other),
        bytes_in: n(&counts.bytes_in),
        bytes_out: n(&counts.bytes_out),
        said,
    };
    println!("{}", serde_json::to_string(&cost).map_err(bad)?);
    Ok(())
}

fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0)
}

async fn catalog(shape: &Shape, counts: Arc<Counts>, cached: bool, days: i64, person: bool) -> Result<Catalog> {
    let inner = open(&StorageOptions::new(format!("file://{}", forge::root(shape).display())), None).await?;
    let store = Counting {
        inner,
        counts,
        latency: Duration::from_millis(shape.latency_ms),
        shift: SignedDuration::from_hours(24 * days),
    };
    let unlock = person.then(|| access::read_identity_file(&forge::identity(shape))).transpose()?;
    let vault = access::open_on_host(Arc::new(store), &HOST.parse()?, &forge::trust(shape), unlock.as_ref()).await?;
    let name = if cached { "cache" } else { "cold" };
    let cache = forge::state(shape).join(name).join(vault.header.vault.to_string());
    if !cached {
        let _ = std::fs::remove_dir_all(&cache);
    }
    Ok(Catalog::new(Arc::new(vault), Some(cache)))
}

async fn run(step: &str, shape: &Shape, counts: Arc<Counts>) -> Result<String> {
    let plan: Name = PLAN.parse()?;
    let warm = |days, person| catalog(shape, counts.clone(), true, days, person);
    let cold = || catalog(shape, counts.clone(), false, 0, false);
    let dry = PruneOptions { max_share: 1.0, dry_run: true };
    let wet = PruneOptions { max_share: 1.0, dry_run: false };
    match step {
        "forge" => forge::forge(shape).await,
        "list-cold" => list(&cold().await?).await,
        "list" => list(&warm(0, false).await?).await,
        "show" => {
            let m = select::backup(&warm(0, false).await?, &plan, "latest", None, &[]).await?;
            Ok(human(m.stats.bytes))
        }
        "unchanged" => backup(warm(0, false).await?, shape, false).await,
        "unchanged-cold" => backup(cold().await?, shape, false).await,
        "changed" => backup(warm(0, false).await?, shape, true).await,
        "check" => {
            let mut catalog = warm(0, false).await?;
            catalog = Catalog::new(catalog.vault().clone(), None);
            let report = check::check(&catalog, None, Depth::Structure, Arc::new(Silent)).await?;
            if !report.is_clean() {
                return Err(Error::new(
                    Kind::Internal,
                    format!("the forged vault is not clean: {:?}", report.findings.first()),
                ));
            }
            Ok(format!("{} segments, {} packs", report.segments, report.packs))
        }
        "restore" => {
            let catalog = warm(0, true).await?;
            let m = select::backup(&catalog, &plan, "latest", None, &[]).await?;
            let artifact = select::artifact(select::source(&m, &SOURCE.parse()?)?, Some("tree"))?;
            let reader = Reader::new(catalog, Arc::new(Silent))?;
            // Only the files of the real backup have bytes.
            let file = forge::changes(shape, shape.backups).last().map_or(0, |r| r.start);
            let path = PathBuf::from(format!("/{}", forge::path(file)));
            let placed = tree::into_directory(&reader, artifact, &[path], &shape.dir.join("restored")).await?;
            Ok(format!("{} bytes", placed.bytes))
        }
        "prune-dry-cold" => pruned(&prune::prune(&cold().await?, dry).await?),
        "prune-dry" => pruned(&prune::prune(&warm(0, false).await?, dry).await?),
        "forget" => {
            let catalog = warm(0, false).await?;
            let vault = catalog.vault();
            let lost = damage::unhealed(vault).await?;
            let respect = Respect {
                damaged: damage::lacking(&catalog, None, &lost).await?.sources,
                held: marks::marked(vault, layout::HOLDS, RecordKind::Hold).await?,
                acknowledged: marks::marked(vault, layout::ACKNOWLEDGED, RecordKind::Acknowledged).await?,
                ..Respect::default()
            };
            let manifests = catalog.all(Some(&plan)).await?;
            let keep = Keep { last: (shape.backups / 2).max(1) as u32, ..Keep::default() };
            let verdicts = retention::decide(&manifests, &keep, &respect, vault.now().await?)?;
            drop(manifests);
            let doomed: Vec<_> =
                verdicts.into_iter().filter(|v| v.reasons.is_empty()).map(|v| (v.plan, v.id)).collect();
            Ok(format!("{} removed", marks::forget(vault, &doomed).await?.removed.len()))
        }
        // Objects of less than half a day are left alone, and the grace time is a week.
        "condemn" => pruned(&prune::prune(&warm(1, false).await?, wet).await?),
        "delete" => pruned(&prune::prune(&warm(9, false).await?, wet).await?),
        other => Err(Error::new(Kind::Internal, format!("no step {other}"))),
    }
}

async fn list(catalog: &Catalog) -> Result<String> {
    let all = catalog.each(None).await?;
    marks::marked(catalog.vault(), layout::HOLDS, RecordKind::Hold).await?;
    Ok(plural(all.len() as u64, "backup"))
}

fn pruned(r: &prune::PruneReport) -> Result<String> {
    Ok(format!(
        "{} live, {} condemned ({}), {} deleted",
        r.live_objects,
        r.condemned_objects,
        human(r.condemned_bytes),
        r.deleted_objects
    ))
}

/// One run that takes every file from the backup before, or gives some anew. The walk of a real tree is not in it; its
/// cost is that of `find`, and `benches/run.sh` measures it.
async fn backup(catalog: Catalog, shape: &Shape, changed: bool) -> Result<String> {
    let began = Timestamp::now();
    let journal = forge::state(shape).join("uploads").join(PLAN);
    let options = WriterOptions::default();
    let writer =
        BackupWriter::begin(catalog, PLAN.parse()?, MACHINE.into(), options, &journal, Arc::new(Silent), began).await?;
    let runs = if changed { forge::changes(shape, shape.backups) } else { Vec::new() };
    let source: Name = SOURCE.parse()?;
    let (w, s) = (writer.clone(), source.clone());
    let work = tokio::task::spawn_blocking(move || tree_of(&w, &s, &runs));
    let artifact = work.await.map_err(|_| Error::new(Kind::Internal, "the reading thread is gone"))??;
    let outcome = Outcome {
        name: source,
        kind: "files".into(),
        result: Ok(vec![artifact]),
        facts: serde_json::json!({ "paths": ["/srv/data"] }),
        warnings: vec![],
        seconds: 0.0,
    };
    let m = writer.commit(vec![outcome], true, Timestamp::now()).await?;
    Ok(format!("{} shipped, {}", human(m.stats.shipped), plural(m.stats.packs, "new pack")))
}

/// As `sources::files::read`: a thread reads the index of the backup before, and it is merged with what there is.
fn tree_of(
    writer: &BackupWriter,
    source: &Name,
    runs: &[Range<u64>],
) -> Result<backstay::repository::writer::PendingArtifact> {
    let base = writer
        .base(source, "tree")
        .ok_or_else(|| Error::new(Kind::Internal, "the forged backup is not found"))?
        .segments
        .clone();
    let (sender, segments) = mpsc::sync_channel(4);
    let reads = writer.clone();
    std::thread::spawn(move || base.iter().all(|r| sender.send(reads.base_segment(r)).is_ok()));
    let mut artifact = writer.artifact("tree", "tar");
    let mut file = 0;
    let mut runs = runs.iter().peekable();
    for segment in segments {
        let segment = segment?;
        for (index, entry) in segment.segment.entries.iter().enumerate() {
            if runs.peek().is_some_and(|r| r.end <= file) {
                runs.next();
            }
            let same = entry.file.as_ref().is_some_and(|f| f.path.0 == forge::path(file).as_bytes());
            if !same {
                return Err(Error::new(Kind::Internal, format!("file {file} is not where it should be")));
            }
            if runs.peek().is_some_and(|r| r.contains(&file)) || !artifact.reusable(&segment, entry) {
                fresh(&mut artifact, file)?;
            } else {
                artifact.reuse(&segment, index)?;
            }
            file += 1;
        }
    }
    artifact.finish()
}

/// A new version of a file, with a real header: it will be restored. Small, so that the vault stays small.
fn fresh(artifact: &mut ArtifactWriter, file: u64) -> Result<()> {
    let mut content = [0; 2000];
    blake3::Hasher::new().update(&file.to_le_bytes()).finalize_xof().fill(&mut content);
    let path = forge::path(file);
    let mut header = tar::Header::new_gnu();
    let failed = |e| Error::new(Kind::Internal, "the path does not fit").because(e);
    header.set_path(&path).map_err(failed)?;
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(1_800_000_000);
    header.set_uid(1000);
    header.set_gid(1000);
    header.set_cksum();
    let entry = FileEntry {
        path: Bytes(path.into_bytes()),
        kind: FileType::File,
        size: content.len() as u64,
        mtime: 1_800_000_000_000_000_000,
        ctime: Some(1_800_000_000_000_000_000),
        inode: 1_000_000 + file * 7,
        mode: 0o644,
        uid: 1000,
        gid: 1000,
        link: None,
        header: 512,
        blob: None,
        read_day: 20_000,
    };
    artifact.small(entry, header.as_bytes(), &content)
}
