//! Files that were made together: one backup of somebody else's.

use super::layout::{FileRule, Is, Layout, SumFormat};
use super::pattern::{Pattern, TIMESTAMP, Words};
use super::sums::{self, Sum};
use super::when::Moment;
use crate::error::{Error, Kind, Result};
use crate::model::Name;
use crate::storage::readonly::{ReadOnly, list};
use crate::storage::{ErrorKind, ObjectInfo};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// One file of a set.
#[derive(Clone, Debug)]
pub struct Part {
    /// Which rule of the layout it matches.
    pub rule: usize,
    /// The file.
    pub object: ObjectInfo,
    /// What the checksums beside it say.
    pub sum: Option<Sum>,
}

/// One backup.
#[derive(Clone, Debug)]
pub struct Set {
    /// Its name: the time as it is written, with the other words of the pattern before it.
    pub name: String,
    /// When it was made; nothing when the text in its name is no time of that zone.
    pub time: Option<Timestamp>,
    /// Its files, in the order of the rules.
    pub parts: Vec<Part>,
    /// What keeps it from being restored: files that are not there, sums that disagree.
    pub problems: Vec<Problem>,
    /// What is odd about it and does no harm.
    pub remarks: Vec<String>,
}

/// Why a set is not whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What it is.
    #[serde(flatten)]
    pub wrong: Wrong,
    /// The file that it is about; without one the whole set.
    #[serde(skip)]
    pub file: Option<String>,
}

/// What may be wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", content = "what", rename_all = "kebab-case")]
pub enum Wrong {
    /// A file of the layout, or one that the checksums name, is not there.
    Missing(String),
    /// A file is not as large as the checksums say, or the checksums cannot be read.
    Disagrees(String),
    /// Another set has the same time.
    SameTime(String),
    /// Its time is none.
    NoTime(String),
}

impl Problem {
    fn missing(file: &str) -> Self {
        Problem { wrong: Wrong::Missing(file.to_owned()), file: Some(file.to_owned()) }
    }

    fn of(file: &str, wrong: Wrong) -> Self {
        Problem { wrong, file: Some(file.to_owned()) }
    }

    fn of_all(wrong: Wrong) -> Self {
        Problem { wrong, file: None }
    }

    /// For people.
    pub fn words(&self) -> String {
        match &self.wrong {
            Wrong::Missing(what) => format!("missing: {what}"),
            Wrong::Disagrees(what) | Wrong::SameTime(what) | Wrong::NoTime(what) => what.clone(),
        }
    }

    fn kind(&self) -> Kind {
        match self.wrong {
            Wrong::SameTime(_) | Wrong::NoTime(_) => Kind::Refused,
            Wrong::Missing(_) | Wrong::Disagrees(_) => Kind::Damaged,
        }
    }

    /// Whether it stands in the way of restoring these sources. Files that no rule knows are of none of them.
    fn concerns(&self, layout: &Layout, only: &[Name]) -> bool {
        let Some(file) = &self.file else { return true };
        let known = |rule: &&FileRule| rule.pattern.matches(file, &layout.clock).is_some();
        only.is_empty() || layout.files.iter().filter(known).any(|rule| rule.concerns(only))
    }
}

impl Set {
    /// True when nothing is missing and nothing disagrees, as far as names and sizes tell.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty()
    }

    /// True when what these sources need is complete; with none named, all of it.
    pub fn is_complete_for(&self, layout: &Layout, only: &[Name]) -> bool {
        !self.problems.iter().any(|p| p.concerns(layout, only))
    }

    /// The kind of what keeps it from being restored.
    pub fn fault(&self) -> Option<Kind> {
        self.problems.first().map(Problem::kind)
    }

    /// Its files by name; one that several rules speak of is one file.
    fn files(&self) -> BTreeMap<&str, u64> {
        self.parts.iter().map(|p| (p.object.key.as_str(), p.object.size)).collect()
    }

    /// How many files it has.
    pub fn count(&self) -> usize {
        self.files().len()
    }

    /// Bytes of its files.
    pub fn bytes(&self) -> u64 {
        self.files().values().sum()
    }

    /// Refuses a set that is not whole, as far as these sources need it; with none named, all of it.
    ///
    /// # Errors
    /// [`Kind::Refused`] when which files are meant is not clear, [`Kind::Damaged`] when some are missing or differ.
    pub fn require_complete(&self, layout: &Layout, only: &[Name]) -> Result<()> {
        let concerning: Vec<&Problem> = self.problems.iter().filter(|p| p.concerns(layout, only)).collect();
        let Some(first) = concerning.first() else { return Ok(()) };
        let all: Vec<String> = concerning.iter().map(|p| p.words()).collect();
        let hint = match first.wrong {
            Wrong::Missing(_) => "Take another set, or say `optional = true` for files that a backup may do without.",
            Wrong::Disagrees(_) => "The file is not the one that was backed up; take another set.",
            Wrong::SameTime(_) => "Make the patterns say which of them is meant.",
            Wrong::NoTime(_) => "Correct `timezone` of the layout.",
        };
        Err(Error::new(first.kind(), format!("the foreign backup {} of {} is not whole", self.name, layout.name))
            .because(all.join("\n"))
            .hint(hint))
    }

    /// The words of its name besides the time: of several applications in one place each has its own.
    fn words(&self) -> &str {
        self.name.rsplit_once(':').map_or("", |(words, _)| words)
    }
}

/// Finds all sets of a layout, oldest first.
///
/// # Errors
/// When the store cannot be listed; a damaged file of checksums is a problem of its set.
pub async fn find(layout: &Layout, store: &dyn ReadOnly) -> Result<Vec<Set>> {
    let patterns = layout.files.iter().map(|r| &r.pattern).chain(layout.checksums.as_ref().map(|c| &c.manifest));
    let mut objects = Vec::new();
    for prefix in prefixes(patterns) {
        objects.extend(list(store, &prefix).await.map_err(|e| unreachable(layout, e))?);
    }
    let mut sets = group(layout, &objects);
    if let Some(checksums) = &layout.checksums {
        for object in &objects {
            let Some(words) = checksums.manifest.matches(&object.key, &layout.clock) else { continue };
            let wanted = words.contains_key(TIMESTAMP).then(|| key_of(&words));
            let sums = read_sums(store, object, &checksums.format).await;
            for (_, set) in sets.iter_mut().filter(|(key, _)| wanted.as_ref().is_none_or(|w| w == *key)) {
                match &sums {
                    Ok(sums) => compare(set, sums, &objects, wanted.is_some()),
                    Err(e) => {
                        let wrong = Wrong::Disagrees(format!("{}: {}", object.key, e.one_line()));
                        set.problems.push(Problem::of_all(wrong));
                    }
                }
            }
        }
        for set in sets.values_mut() {
            for part in set.parts.iter().filter(|p| p.sum.is_none()) {
                set.remarks.push(format!("no checksum is written for {}", part.object.key));
            }
        }
    }
    let mut sets: Vec<Set> = sets.into_values().collect();
    same_times(&mut sets);
    sets.sort_by(|a, b| (a.time, &a.name).cmp(&(b.time, &b.name)));
    Ok(sets)
}

/// Finds one set: `latest` (the newest that is complete, as far as these sources need it), or by its name or the unique
/// beginning of it.
///
/// # Errors
/// [`Kind::NotFound`] with what there is.
pub fn choose<'a>(layout: &Layout, sets: &'a [Set], which: &str, only: &[Name]) -> Result<&'a Set> {
    let hint = format!("`backstay list --foreign {}` shows what there is.", layout.name);
    let none = |what: String| Error::new(Kind::NotFound, what).hint(hint.clone());
    if which == "latest" {
        return sets
            .iter()
            .rev()
            .find(|s| s.is_complete_for(layout, only))
            .ok_or_else(|| none(format!("no foreign backup of {} is complete", layout.name)));
    }
    if let Some(exact) = sets.iter().find(|s| s.name == which) {
        return Ok(exact);
    }
    let found: Vec<&Set> = sets.iter().filter(|s| s.name.starts_with(which)).collect();
    match &found[..] {
        [one] => Ok(one),
        [] => Err(none(format!("there is no foreign backup {which} of {}", layout.name))),
        several => Err(none(format!("{which} is the beginning of {} foreign backups", several.len()))),
    }
}

/// The newest set before another one of the same application that is complete, as far as these sources need it.
pub fn older<'a>(layout: &Layout, sets: &'a [Set], than: &Set, only: &[Name]) -> Option<&'a Set> {
    let earlier = |s: &&Set| s.time.is_some() && s.time < than.time && s.words() == than.words();
    sets.iter().rev().filter(earlier).find(|s| s.is_complete_for(layout, only))
}

/// Beginnings of names that need to be listed, none of them within another.
fn prefixes<'a>(patterns: impl Iterator<Item = &'a Pattern>) -> Vec<String> {
    let mut all: Vec<&str> = patterns.map(Pattern::prefix).collect();
    all.sort_unstable();
    let mut least: Vec<String> = Vec::new();
    for prefix in all {
        if !least.last().is_some_and(|l| prefix.starts_with(l.as_str())) {
            least.push(prefix.to_owned());
        }
    }
    least
}

fn unreachable(layout: &Layout, e: crate::storage::StorageError) -> Error {
    let hint = match e.kind {
        ErrorKind::NoBucket => "Correct `url` of the layout, or mount what should be there.",
        ErrorKind::Denied => "Let the credentials list and read there; nothing else is needed.",
        _ => "Check `url` and its options.",
    };
    Error::new(Kind::Storage, format!("the foreign backups of {} cannot be listed", layout.name)).because(e).hint(hint)
}

type Key = (Vec<(String, String)>, String);

fn key_of(words: &Words) -> Key {
    let time = words.get(TIMESTAMP).cloned().unwrap_or_default();
    (words.iter().filter(|(w, _)| *w != TIMESTAMP).map(|(w, v)| (w.clone(), v.clone())).collect(), time)
}

fn name_of(key: &Key) -> String {
    key.0.iter().map(|(_, value)| value.as_str()).chain([key.1.as_str()]).collect::<Vec<_>>().join(":")
}

fn group(layout: &Layout, objects: &[ObjectInfo]) -> BTreeMap<Key, Set> {
    let mut sets: BTreeMap<Key, Set> = BTreeMap::new();
    for (rule, file) in layout.files.iter().enumerate() {
        for object in objects {
            let Some(words) = file.pattern.matches(&object.key, &layout.clock) else { continue };
            let key = key_of(&words);
            let set = sets.entry(key.clone()).or_insert_with(|| new_set(layout, &key));
            set.parts.push(Part { rule, object: object.clone(), sum: None });
        }
    }
    for (key, set) in &mut sets {
        let words: Words = key.0.iter().cloned().chain([(TIMESTAMP.to_owned(), key.1.clone())]).collect();
        for (rule, file) in layout.files.iter().enumerate() {
            let found: Vec<&Part> = set.parts.iter().filter(|p| p.rule == rule).collect();
            if found.is_empty() && !file.optional {
                set.problems.push(Problem::missing(&file.pattern.filled(&words)));
            }
            // One source cannot be restored from two files.
            if found.len() > 1 && (file.source.is_some() && file.is != Is::Image) {
                let names: Vec<&str> = found.iter().map(|p| p.object.key.as_str()).collect();
                let wrong = Wrong::SameTime(format!("several files of one time: {}", names.join(", ")));
                set.problems.push(Problem::of(names[0], wrong));
            }
            for empty in found.iter().filter(|p| p.object.size == 0) {
                let key = &empty.object.key;
                set.problems.push(Problem::of(key, Wrong::Disagrees(format!("{key} is empty"))));
            }
        }
    }
    sets
}

fn new_set(layout: &Layout, key: &Key) -> Set {
    let mut set = Set { name: name_of(key), time: None, parts: Vec::new(), problems: Vec::new(), remarks: Vec::new() };
    let zone = &layout.clock.zone_name;
    match layout.clock.read(&key.1) {
        Some(Moment::At(at)) => set.time = Some(at),
        Some(Moment::Twice(at)) => {
            set.time = Some(at);
            set.remarks.push(format!("the clock of {zone} showed this time twice; it is taken as the first"));
        }
        Some(Moment::Never) | None => {
            let wrong = Wrong::NoTime(format!("the clock of {zone} never showed the time {}", key.1));
            set.problems.push(Problem::of_all(wrong));
        }
    }
    set
}

async fn read_sums(store: &dyn ReadOnly, object: &ObjectInfo, format: &SumFormat) -> Result<BTreeMap<String, Sum>> {
    if object.size == 0 || object.size > sums::MAX_BYTES {
        return Err(Error::new(Kind::Damaged, format!("checksums of {} bytes", object.size)));
    }
    let text = store.range(object, 0, object.size).await?;
    let folder = object.key.rfind('/').map_or("", |slash| &object.key[..=slash]);
    sums::read(&text, format, folder)
}

/// Puts sums to files; `own` when the file of checksums is of this set alone, so that it must not name what is not there.
fn compare(set: &mut Set, sums: &BTreeMap<String, Sum>, objects: &[ObjectInfo], own: bool) {
    for part in &mut set.parts {
        let Some(sum) = sums.get(&part.object.key) else { continue };
        if let Some(size) = sum.size.filter(|size| *size != part.object.size) {
            let what = format!("{} has {} bytes, its checksums say {size}", part.object.key, part.object.size);
            set.problems.push(Problem::of(&part.object.key, Wrong::Disagrees(what)));
        }
        part.sum = Some(sum.clone());
    }
    if own {
        let there = |name: &String| objects.binary_search_by(|o| o.key.cmp(name)).is_ok();
        for name in sums.keys().filter(|name| !there(name) && !objects.iter().any(|o| o.key == **name)) {
            let missing = Problem::missing(name);
            if !set.problems.contains(&missing) {
                set.problems.push(missing);
            }
        }
    }
}

/// Two names with one time: which one is meant by a time cannot be told.
fn same_times(sets: &mut [Set]) {
    let mut by_time: BTreeMap<(String, Timestamp), Vec<usize>> = BTreeMap::new();
    for (i, set) in sets.iter().enumerate() {
        if let Some(time) = set.time {
            by_time.entry((set.words().to_owned(), time)).or_default().push(i);
        }
    }
    for same in by_time.into_values().filter(|same| same.len() > 1) {
        let names: Vec<String> = same.iter().map(|i| sets[*i].name.clone()).collect();
        for i in same {
            let wrong = Wrong::SameTime(format!("two sets have the same time: {}", names.join(", ")));
            sets[i].problems.push(Problem::of_all(wrong));
        }
    }
}
