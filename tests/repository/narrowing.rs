//! One file or folder out of a large tree: what comes back is what the whole tree has there, and little else is read.

use crate::data::Random;
use crate::harness::{World, name};
use backstay::recovery::{select, tree};
use backstay::repository::reader::Reader;
use backstay::sources::files::FilesSource;
use backstay::telemetry::monitor::Silent;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// Names that sort differently with and without a slash behind them, that begin with each other, and that are no UTF-8.
const NAMES: [&[u8]; 14] =
    [b"a", b"a-", b"a-b", b"a.b", b"a b", b"a!", b"aa", b"a0", b"b", b".x", b"-", b"\x01", b"\xff", b"a\x80"];

/// Everything at and below a path, with the content of files.
fn listing(path: &Path, relative: &Path, found: &mut BTreeMap<PathBuf, Option<Vec<u8>>>) {
    if !path.is_dir() {
        found.insert(relative.to_owned(), Some(fs::read(path).unwrap()));
        return;
    }
    found.insert(relative.to_owned(), None);
    for entry in fs::read_dir(path).unwrap().map(Result::unwrap) {
        listing(&entry.path(), &relative.join(entry.file_name()), found);
    }
}

/// Two levels of folders with files in them; some of the files have a further name in another folder.
fn plant(root: &Path, random: &mut Random) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut plain, mut linked) = (Vec::new(), Vec::new());
    let mut folders = Vec::new();
    for a in NAMES {
        for b in NAMES {
            let folder = root.join(OsStr::from_bytes(a)).join(OsStr::from_bytes(b));
            fs::create_dir_all(&folder).unwrap();
            folders.push(folder.clone());
            for n in 0..50usize {
                let file = folder.join(OsStr::from_bytes(&[NAMES[n % NAMES.len()], n.to_string().as_bytes()].concat()));
                fs::write(&file, file.as_os_str().as_bytes()).unwrap();
                plain.push(file);
            }
        }
    }
    for n in 0..60 {
        let first = plain.swap_remove(random.below(plain.len()));
        let further = folders[random.below(folders.len())].join(format!("further-{n}"));
        fs::hard_link(&first, &further).unwrap();
        linked.extend([first, further]);
    }
    (plain, linked)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_selected_comes_back_whole_and_each_segment_is_read_once() {
    let world = World::new().await;
    let machine = world.machine("m").await;
    let mut random = Random::new(7);
    let root = world.dir.path().join("tree");
    let (plain, linked) = plant(&root, &mut random);
    let source = FilesSource {
        paths: vec![root.clone()],
        exclude: vec![],
        never: vec![],
        one_file_system: false,
        reread_days: None,
    };
    let mut run = machine.begin("files").await.unwrap();
    run.read("tree", &source).await;
    let manifest = run.commit().await.unwrap();
    let artifact = select::artifact(select::source(&manifest, &name("tree")).unwrap(), Some("tree")).unwrap();
    assert!(artifact.segments.len() > 3, "{} segments", artifact.segments.len());

    let read = Arc::new(Mutex::new(Vec::new()));
    let log = read.clone();
    world.store.set_fault(move |op, key| {
        if op == "get" && key.contains("/meta/") {
            log.lock().unwrap().push(key.to_owned());
        }
        None
    });
    for round in 0..40 {
        let any = |random: &mut Random| match random.below(8) {
            0 => plain[random.below(plain.len())].parent().unwrap().to_owned(),
            1 => plain[random.below(plain.len())].parent().unwrap().parent().unwrap().to_owned(),
            2 | 3 => linked[random.below(linked.len())].clone(),
            _ => plain[random.below(plain.len())].clone(),
        };
        let mut paths = vec![any(&mut random)];
        if round % 3 == 0 {
            paths.push(any(&mut random));
        }
        let reader = Reader::new(world.person().await, Arc::new(Silent)).unwrap();
        let target = world.dir.path().join(format!("restored-{round}"));
        read.lock().unwrap().clear();
        tree::into_directory(&reader, artifact, &paths, &target).await.unwrap();
        let read = read.lock().unwrap().clone();
        for path in &paths {
            let (mut before, mut after) = (BTreeMap::new(), BTreeMap::new());
            listing(path, Path::new(""), &mut before);
            listing(&target.join(path.strip_prefix("/").unwrap()), Path::new(""), &mut after);
            assert_eq!(after, before, "{paths:?}");
        }
        assert_eq!(read.iter().collect::<BTreeSet<_>>().len(), read.len(), "{paths:?}: read twice: {read:?}");
        if paths.len() == 1 && plain.contains(&paths[0]) {
            assert_eq!(read.len(), 1, "{paths:?} of {} segments", artifact.segments.len());
        }
        fs::remove_dir_all(&target).unwrap();
    }
}
