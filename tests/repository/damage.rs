//! Every kind of object times every kind of damage: whoever reads the object refuses it by name, or gives what
//! was there before. Where neither is so, the table in [`by_design`] says why that does no harm.

use crate::data::{Random, stream, tree};
use crate::harness::{GRACE, World, name, restore_all, small_tree, started};
use age::{Recipient, x25519};
use backstay::error::{Error, Kind, Result};
use backstay::model::BackupId;
use backstay::repository::access::{self, KeyLabel};
use backstay::repository::catalog::Catalog;
use backstay::repository::drills::{self, Drills, Figures, Outcome};
use backstay::repository::reader::Reader;
use backstay::repository::record::RecordKind;
use backstay::repository::{claims, condemned, layout, marks, seal};
use backstay::telemetry::monitor::Silent;
use bytes::Bytes;
use std::fmt::Debug;
use std::sync::Arc;

/// What an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Header,
    KeyFile,
    KeyLabel,
    Canary,
    Manifest,
    Segment,
    Pack,
    Condemned,
    Forgotten,
    DamagedMark,
    Hold,
    Acknowledged,
    Proven,
    Drill,
    Claim,
}

const ALL: [What; 15] = [
    What::Header,
    What::KeyFile,
    What::KeyLabel,
    What::Canary,
    What::Manifest,
    What::Segment,
    What::Pack,
    What::Condemned,
    What::Forgotten,
    What::DamagedMark,
    What::Hold,
    What::Acknowledged,
    What::Proven,
    What::Drill,
    What::Claim,
];

impl What {
    fn folder(self) -> &'static str {
        match self {
            What::Header => layout::VAULT,
            What::KeyFile | What::KeyLabel | What::Canary => layout::KEYS,
            What::Manifest => layout::BACKUPS,
            What::Segment => layout::META,
            What::Pack => layout::PACKS,
            What::Condemned => layout::CONDEMNED,
            What::Forgotten => layout::FORGOTTEN,
            What::DamagedMark => layout::DAMAGED,
            What::Hold => layout::HOLDS,
            What::Acknowledged => layout::ACKNOWLEDGED,
            What::Proven => layout::PROVEN,
            What::Drill => layout::DRILLS,
            What::Claim => layout::CLAIMS,
        }
    }

    /// All objects of this kind, by full key.
    fn objects(self, world: &World) -> Vec<String> {
        let mut keys = world.keys(self.folder());
        keys.retain(|k| match self {
            What::KeyFile => k.ends_with(".age"),
            What::KeyLabel => k.ends_with(".label"),
            What::Canary => k.ends_with("canary"),
            _ => true,
        });
        if self == What::Claim {
            // The newest first: it alone is read.
            keys.reverse();
        }
        keys
    }

    /// Which of them are damaged: the first and the last one, as far as both are read.
    fn chosen(self, world: &World) -> Vec<usize> {
        let last = self.objects(world).len() - 1;
        if last == 0 || self == What::Claim { vec![0] } else { vec![0, last] }
    }

    /// A key of this kind at which there is nothing.
    fn free(self, world: &World, taken: &str) -> String {
        let id = BackupId::new(world.clock.now());
        let zeros = "0".repeat(62);
        let key = match self {
            What::Header => return world.key("vault.json"),
            What::KeyFile => layout::key_file(1, &name("nobody")),
            What::KeyLabel => format!("{}nobody.label", layout::epoch(1)),
            What::Canary => layout::canary(2),
            What::Manifest => layout::manifest(&name("erp"), &id),
            What::Segment => format!("{}00/00{zeros}-0", layout::META),
            What::Pack => format!("{}00/00{zeros}-0", layout::PACKS),
            What::DamagedMark => format!("{}00{zeros}-0", layout::DAMAGED),
            What::Claim => layout::claim(3),
            What::Hold | What::Acknowledged | What::Drill => {
                return format!("{}~{}", taken.rsplit_once('~').unwrap().0, BackupId::new(world.clock.now()));
            }
            What::Condemned | What::Forgotten | What::Proven => layout::record(self.folder(), &id),
        };
        world.key(&key)
    }
}

/// Reads whatever is of a kind, as the program does; the text stands for what it learned.
async fn read(what: What, world: &World) -> Result<String> {
    fn text(found: impl Debug) -> String {
        format!("{found:?}")
    }
    let vault = access::open_on_host(world.store.clone(), &world.host, &world.trust(), Some(&world.unlock())).await?;
    let catalog = Catalog::new(Arc::new(vault), None);
    let vault = catalog.vault();
    Ok(match what {
        What::Header => text(&vault.header),
        What::KeyFile => text(vault.epochs().iter().map(|e| e.identity.is_some()).collect::<Vec<_>>()),
        What::KeyLabel => {
            let mut labels = Vec::new();
            for object in vault.list(layout::KEYS).await?.iter().filter(|o| o.key.ends_with(".label")) {
                labels.push(vault.read_record::<KeyLabel>(RecordKind::KeyLabel, &object.key).await?);
            }
            text(labels)
        }
        What::Canary => text(access::prove(vault).await?),
        What::Manifest => text(catalog.all(None).await?.iter().map(|m| &m.id).collect::<Vec<_>>()),
        What::Segment => {
            let mut all = Vec::new();
            for manifest in catalog.all(None).await? {
                for reference in manifest.segments() {
                    all.push(catalog.segment(reference).await?);
                }
            }
            text(all)
        }
        What::Pack => {
            let reader = Reader::new(catalog.clone(), Arc::new(Silent))?;
            let mut hashes = Vec::new();
            for manifest in catalog.all(None).await? {
                for artifact in manifest.sources.iter().flat_map(|s| &s.artifacts) {
                    hashes.push(blake3::hash(&reader.small(artifact).await?));
                }
            }
            text(hashes)
        }
        What::Condemned => text(condemned::condemned_records(vault).await?),
        What::Forgotten => text(
            marks::missing_links(
                catalog.vault(),
                &catalog.all(None).await?.iter().flat_map(|m| m.links().collect::<Vec<_>>()).collect::<Vec<_>>(),
            )
            .await?,
        ),
        What::DamagedMark => text(marks::damaged(vault).await?.into_iter().collect::<std::collections::BTreeSet<_>>()),
        What::Hold => text(sorted(marks::marked(vault, layout::HOLDS, RecordKind::Hold).await?)),
        What::Acknowledged => text(sorted(marks::marked(vault, layout::ACKNOWLEDGED, RecordKind::Acknowledged).await?)),
        What::Proven => text(marks::proofs(vault).await?),
        What::Drill => {
            let drills = Drills::read(vault, None).await?;
            // They are set aside and told, so that one of them stops nothing.
            if let Some((key, why)) = drills.refused().next() {
                return Err(Error::new(why.kind, why.to_string()).at(key));
            }
            text(drills.of_plan(&name("erp")))
        }
        What::Claim => text(claims::newest(vault).await?),
    })
}

fn sorted<T: Ord>(set: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut all: Vec<T> = set.into_iter().collect();
    all.sort();
    all
}

/// A vault with at least two objects of each kind, except those of which there is one.
async fn furnished(recovery: x25519::Identity) -> World {
    let world = World::of("host-1", "2026-01-05T02:00:00Z", recovery).await;
    let machine = world.machine("m").await;
    let vault = machine.catalog.vault();
    let person = world.person().await;
    let second = access::KeyRecipient::X25519(world.recovery.to_public());
    access::write_key(person.vault(), person.vault().epoch().unwrap(), &name("second"), "recovery", &second)
        .await
        .unwrap();
    let mut manifests = Vec::new();
    for seed in 0..6 {
        let sources = [
            stream("db", Random::new(seed + 1).noise(50_000)),
            tree("files", &small_tree(&mut Random::new(seed + 9), 5, 900)),
        ];
        manifests.push(machine.backup("erp", &sources).await.unwrap());
        world.clock.hours(1);
    }
    for gone in &manifests[1..3] {
        marks::forget(vault, &[(gone.plan.clone(), gone.id.clone())]).await.unwrap();
        world.clock.hours(24);
        world.prune().await.unwrap();
    }
    // What is left is named; the two records are kept for another grace time.
    world.clock.advance(GRACE);
    world.prune().await.unwrap();
    for kept in &manifests[4..] {
        let (plan, id) = (&kept.plan, &kept.id);
        marks::set(vault, layout::HOLDS, RecordKind::Hold, plan, id, "why").await.unwrap();
        marks::set(vault, layout::ACKNOWLEDGED, RecordKind::Acknowledged, plan, id, "why").await.unwrap();
        let segment = machine.catalog.segment(kept.segments().next().unwrap()).await.unwrap();
        marks::mark_damaged(vault, &segment.packs[0].key, "why").await.unwrap();
        marks::record_proof(vault, kept.id.as_str()).await.unwrap();
        let figures = Figures {
            outcome: Outcome::Proven,
            machine: "m".into(),
            seconds: 1.0,
            compared: 1,
            rows: 0,
            bytes: 1,
            note: String::new(),
        };
        drills::record(person.vault(), plan, id, figures).await.unwrap();
    }
    for machine in ["new", "newer"] {
        claims::take(vault, machine, [], "took over").await.unwrap();
    }
    for what in ALL {
        let least = if matches!(what, What::Header | What::Canary) { 1 } else { 2 };
        assert!(what.objects(&world).len() >= least, "{what:?}: {}", what.objects(&world).len());
    }
    world
}

/// One way of damaging an object: its name, what it does to the store, and the key that must be named.
type Damage = (&'static str, Vec<(String, Option<Bytes>)>, String);

fn damages(what: What, index: usize, world: &World, other: &World) -> Vec<Damage> {
    let keys = what.objects(world);
    let key = keys[index].clone();
    let body = world.store.raw(&key).unwrap();
    let n = body.len();
    let flipped = |at: usize| {
        let mut b = body.to_vec();
        b[at] ^= 1;
        Some(Bytes::from(b))
    };
    let mut all = vec![
        ("flip first", vec![(key.clone(), flipped(0))], key.clone()),
        ("flip middle", vec![(key.clone(), flipped(n / 2))], key.clone()),
        ("flip last", vec![(key.clone(), flipped(n - 1))], key.clone()),
        ("cut in half", vec![(key.clone(), Some(body.slice(..n / 2)))], key.clone()),
        ("cut by one", vec![(key.clone(), Some(body.slice(..n - 1)))], key.clone()),
        ("empty", vec![(key.clone(), Some(Bytes::new()))], key.clone()),
        ("extended", vec![(key.clone(), Some([&body[..], &[0x58; 100]].concat().into()))], key.clone()),
        ("deleted", vec![(key.clone(), None)], key.clone()),
        (
            "of another vault",
            {
                let foreign = other.store.raw(&what.objects(other)[0]).unwrap();
                vec![(key.clone(), Some(foreign))]
            },
            key.clone(),
        ),
    ];
    if let Some(second) = keys.iter().find(|other| **other != key) {
        let both = vec![(key.clone(), world.store.raw(second)), (second.clone(), Some(body.clone()))];
        all.push(("swapped", both, key.clone()));
    }
    if what == What::Header {
        // One digit, and prune would delete early.
        let text = String::from_utf8(body.to_vec()).unwrap().replace("604800", "604802");
        all.push(("another grace time", vec![(key.clone(), Some(text.into()))], key.clone()));
        let plain: serde_json::Value = serde_json::from_slice(&body).unwrap();
        for (damage, field, value) in [
            ("another vault id", "vault", serde_json::Value::from("0".repeat(32))),
            ("another format", "format", serde_json::Value::from(2)),
        ] {
            let mut changed = plain.clone();
            changed[field] = value;
            let text = serde_json::to_vec(&changed).unwrap();
            all.push((damage, vec![(key.clone(), Some(text.into()))], key.clone()));
        }
    } else {
        let free = what.free(world, &key);
        all.push(("replayed", vec![(free.clone(), Some(body.clone()))], free));
        // By somebody who knows all public keys and not the vault's secret.
        let vault = access_recipients(world);
        let plain = [b"0".repeat(64).as_slice(), b"\n", &zstd::bulk::compress(b"{\"format\":1}", 3).unwrap()].concat();
        let forged = seal::seal(vault.iter().map(|r| r as &dyn Recipient), &plain).unwrap();
        all.push(("forged", vec![(key.clone(), Some(forged.into()))], key.clone()));
    }
    all
}

fn access_recipients(world: &World) -> Vec<x25519::Recipient> {
    let text = std::fs::read_to_string(world.trust()).unwrap();
    let trust: serde_json::Value = serde_json::from_str(&text).unwrap();
    let epoch = &trust["epochs"][0];
    let catalog: x25519::Identity = epoch["catalog_identity"].as_str().unwrap().parse().unwrap();
    vec![epoch["recipient"].as_str().unwrap().parse().unwrap(), catalog.to_public(), world.recovery.to_public()]
}

/// Damage that is neither refused nor without effect, and why that does no harm.
fn by_design(what: What, damage: &str) -> Option<&'static str> {
    Some(match (what, damage) {
        (What::KeyFile, "of another vault" | "swapped" | "replayed") => return None,
        (What::KeyFile, _) => "another key file of the same person opens the vault; the last one is named, see below",
        (What::KeyLabel, "deleted") => "a label is for people; the key file is there without it",
        (What::Manifest, "deleted") => "a later manifest names it as predecessor: `check` misses it",
        (What::Condemned, "deleted") => "its packs are condemned anew; who can delete can delete packs too",
        (What::Forgotten, "deleted") => "the gap that it explained is reported as one",
        (What::Claim, "deleted") => {
            "the claim before it holds again; who can delete it can delete the backups that it protects too"
        }
        (What::Hold | What::Acknowledged | What::Proven | What::Drill, "deleted") => {
            "a mark is taken back by deleting it; who can delete can delete the backup too"
        }
        (What::DamagedMark, "deleted") => "the next check marks again, and only who can delete packs can delete it",
        (What::DamagedMark, _) => "counts by its name alone: a false mark costs a storing again",
        (What::Pack | What::Segment, "replayed") => "no manifest names it",
        (What::Canary, "replayed") => "of an epoch that nobody knows",
        _ => return None,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_damage_to_every_kind_of_object_is_refused_by_name_or_does_nothing() {
    // The same person holds both vaults.
    let person = x25519::Identity::generate();
    let (world, other) = (furnished(person.clone()).await, furnished(person).await);
    let whole = world.store.snapshot();
    let mut problems = Vec::new();
    let mut refused = 0;
    for what in ALL {
        // The records of what was forgotten are read only when something is missing, hence its own clean state.
        let before = read(what, &world).await.unwrap();
        let chosen = what.chosen(&world);
        for (damage, changes, named) in chosen.into_iter().flat_map(|i| damages(what, i, &world, &other)) {
            // Of two that were swapped either may be met first.
            let touched: Vec<String> = changes.iter().map(|(key, _)| key["host-1/".len()..].to_owned()).collect();
            for (key, body) in changes {
                match body {
                    Some(body) => world.store.replace(&key, body),
                    None => drop(world.store.remove(&key)),
                }
            }
            let found = read(what, &world).await;
            let short = named.strip_prefix("host-1/").unwrap();
            match (found, by_design(what, damage)) {
                (Err(e), _) if names(&e, short) || touched.iter().any(|key| names(&e, key)) => refused += 1,
                (Err(e), _) => problems.push(format!("{what:?} {damage}: {short} is not named: {e}")),
                (Ok(now), reason) if now != before && reason.is_none() => {
                    problems.push(format!("{what:?} {damage}: taken for good\n  {before}\n  {now}"))
                }
                (Ok(now), None) if now == before => problems.push(format!("{what:?} {damage}: not noticed")),
                (Ok(_), _) => {}
            }
            for key in world.store.snapshot().keys() {
                world.store.remove(key);
            }
            whole.iter().for_each(|(key, body)| world.store.replace(key, body.clone()));
        }
    }
    assert!(problems.is_empty(), "{} problems:\n{}", problems.len(), problems.join("\n"));
    assert!(refused > 180, "{refused} were refused");
}

fn names(e: &Error, key: &str) -> bool {
    let plain = matches!(e.kind, Kind::Damaged | Kind::Key | Kind::Newer | Kind::Refused | Kind::NotFound);
    // vault.json is found wrong as the vault that it is.
    let text = e.to_string();
    plain && (text.contains(key) || (key == layout::VAULT && (text.contains("host-1") || e.kind == Kind::NotFound)))
}

/// The name of a pack is a keyed hash: neither another sound pack nor one that was made to fit takes its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_pack_of_the_right_length_is_refused() {
    let world = World::new().await;
    let manifest = world.machine("m").await.backup("erp", &[stream("db", vec![7; 5000])]).await.unwrap();
    let catalog = world.person().await;
    let info = catalog.segment(manifest.segments().next().unwrap()).await.unwrap().packs[0];
    let frame = zstd::bulk::compress(&vec![8; info.plain as usize], 3).unwrap();
    let forged = seal::seal(access_recipients(&world)[..1].iter().map(|r| r as &dyn Recipient), &frame).unwrap();
    world.store.replace(&world.key(&layout::pack(&info.key)), forged);
    let reader = Reader::new(catalog, Arc::new(Silent)).unwrap();
    let error = reader.small(&manifest.sources[0].artifacts[0]).await.unwrap_err();
    assert!(names(&error, &layout::pack(&info.key)) && error.kind == Kind::Damaged, "{error}");
}

/// What `by_design` says of deleted manifests and of the last key file.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_manifest_is_missed_and_the_last_key_file_is_named() {
    let world = furnished(x25519::Identity::generate()).await;
    let manifest = &world.keys(layout::BACKUPS)[1];
    world.store.remove(manifest);
    let report = world.check().await;
    assert_eq!(report.missing_predecessors.len(), 1);
    assert!(manifest.ends_with(report.missing_predecessors[0].1.as_str()));

    let keys = What::KeyFile.objects(&world);
    world.store.remove(&keys[0]);
    let last = world.store.raw(&keys[1]).unwrap();
    world.store.replace(&keys[1], last.slice(..last.len() - 1));
    let error = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap_err();
    assert!(error.kind == Kind::Damaged && error.to_string().contains(&keys[1]["host-1/".len()..]), "{error}");
    world.store.remove(&keys[1]);
    let error = access::open_with(world.store.clone(), &world.host, &world.unlock()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Key);
}

/// What `by_design` says of the marks on damaged packs.
#[tokio::test(flavor = "multi_thread")]
async fn a_false_mark_of_damage_costs_one_storing_again_and_a_missing_one_a_check() {
    let (world, machine, mut expected) = started().await;
    let sources = [stream("db", Random::new(1).noise(50_000))];
    let first = machine.remembered(&mut expected, "erp", &sources).await;
    let key = machine.catalog.segment(first.segments().next().unwrap()).await.unwrap().packs[0].key;
    // By somebody who can write to the bucket and knows no secret.
    let mark = world.key(&layout::damaged(&key));
    world.store.replace(&mark, Bytes::from_static(b"no record"));
    world.clock.hours(1);
    let again = machine.remembered(&mut expected, "erp", &sources).await;
    assert!(again.stats.shipped > 50_000, "{:?}", again.stats);
    world.clock.hours(1);
    let third = machine.remembered(&mut expected, "erp", &sources).await;
    assert_eq!(third.stats.packs, 0, "{:?}", third.stats);
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
    // A mark that somebody takes away comes back with the next check.
    let pack = world.key(&layout::pack(&key));
    let mut body = world.store.raw(&pack).unwrap().to_vec();
    body[100] ^= 1;
    world.store.replace(&pack, body);
    world.store.remove(&mark);
    let report = world.check().await;
    assert!(report.healed == 1 && report.is_clean() && world.keys(layout::DAMAGED) == [mark], "{report:?}");
    assert!(restore_all(&world.person().await, &expected).await.is_empty());
}
