//! Dumps in SQL that are taken into history: written again as archives, whose rows have bytes in common with those of our own
//! backups. The dump is read twice, first for what it holds besides rows.

use super::databases::{Both, Got, Large, Picking};
use super::feed::Feed;
use super::read::{Openable, unreadable};
use crate::error::{Error, Kind, Result};
use crate::repository::writer::{BackupWriter, PendingArtifact};
use crate::sources::postgres::archive::head::Head;
use crate::sources::postgres::artifact_name;
use crate::sources::postgres::sql::archive::{Block, Contents, MEDIA};
use crate::sources::postgres::sql::facts::Scanned;
use crate::sources::postgres::sql::names::Words;
use crate::sources::postgres::sql::walk::{Of, Visit, walk};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::io::{BufReader, Write};

/// Bytes that are read at once.
const PIECE: usize = 256 << 10;

/// A database as the dump calls it; the only one of a plain dump may have no name.
type InDump = Option<String>;

/// Takes the databases of a dump as archives. Nothing when one of them has to stay SQL.
///
/// # Errors
/// What is wrong with the dump.
pub(super) async fn take(
    file: &Openable,
    picking: &Picking,
    large: &Large,
    writer: &BackupWriter,
) -> Result<Option<Got>> {
    let (first, cluster) = (picking.clone(), picking.cluster);
    let (scanned, survey) = file
        .with(move |content| {
            let mut scanned = Scanned::default();
            let mut survey = Survey { picking: first, ..Survey::default() };
            walk(BufReader::with_capacity(PIECE, content), &mut Both(&mut scanned, &mut survey))?;
            Ok((scanned, survey))
        })
        .await?;
    let Some(planned) = survey.planned() else { return Ok(None) };
    if planned.is_empty() {
        return Err(picking.nothing(&scanned));
    }
    let mut names: BTreeMap<InDump, String> = BTreeMap::new();
    names.extend(planned.iter().map(|(in_dump, p)| (in_dump.clone(), p.name.clone())));
    let (writer, large) = (writer.clone(), large.clone());
    let ended = file
        .with(move |content| {
            let mut writing = Writing { writer, planned, large, open: None, ended: Vec::new() };
            walk(BufReader::with_capacity(PIECE, content), &mut writing)?;
            writing.finish()
        })
        .await?;
    let described = |in_dump: &InDump| scanned.databases.get(in_dump).cloned().unwrap_or_default();
    let databases = ended.into_iter().map(|(in_dump, artifact)| {
        let facts = described(&in_dump).facts(&names[&in_dump], scanned.server_version);
        (artifact, facts)
    });
    let databases = databases.collect();
    Ok(Some(Got { databases, globals: if cluster { scanned.globals } else { Vec::new() } }))
}

/// What was found in the first pass.
#[derive(Default)]
struct Survey {
    picking: Picking,
    contents: BTreeMap<InDump, Contents>,
    server: Option<String>,
    /// The database that was last.
    last: Option<InDump>,
    /// One came again behind another.
    again: bool,
}

struct Planned {
    name: String,
    head: Head,
    blocks: VecDeque<i32>,
}

impl Survey {
    fn of(&mut self, of: Of<'_>) -> Option<&mut Contents> {
        let Of::In(database) = of else { return None };
        self.picking.name(database)?;
        let key = database.map(str::to_owned);
        if self.last.as_ref() != Some(&key) {
            self.again |= self.contents.contains_key(&key);
            if !self.picking.cluster {
                // Settings before the \connect of a plain dump are said again behind it.
                self.contents.clear();
            }
            self.last = Some(key.clone());
        }
        Some(self.contents.entry(key).or_default())
    }

    fn planned(self) -> Option<BTreeMap<InDump, Planned>> {
        if self.again {
            return None;
        }
        let server = self.server.unwrap_or_default();
        let mut planned = BTreeMap::new();
        for (in_dump, contents) in self.contents {
            let name = self.picking.name(in_dump.as_deref())?;
            let (head, blocks) = contents.head(&name, &server)?;
            planned.insert(in_dump, Planned { name, head, blocks: blocks.into() });
        }
        Some(planned)
    }
}

impl Visit for Survey {
    fn statement(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        if let Some(contents) = self.of(of) {
            contents.statement(sql);
        }
        Ok(())
    }

    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        if let Some(contents) = self.of(of) {
            contents.copy(sql);
        }
        Ok(())
    }

    fn rows(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn copied(&mut self, _: u64) -> Result<()> {
        Ok(())
    }

    fn server(&mut self, version: &str) {
        self.server.get_or_insert_with(|| version.to_owned());
    }
}

/// Writes archives in the second pass.
struct Writing {
    writer: BackupWriter,
    planned: BTreeMap<InDump, Planned>,
    large: Large,
    open: Option<Open>,
    ended: Vec<(InDump, PendingArtifact)>,
}

struct Open {
    in_dump: InDump,
    feed: Feed,
    blocks: VecDeque<i32>,
    block: Option<Block>,
    large: HashSet<(String, String)>,
}

fn differs() -> Error {
    Error::new(Kind::Damaged, "the dump changed while it was read")
}

impl Writing {
    fn open(&mut self, in_dump: InDump, planned: Planned) -> Result<()> {
        let mut feed = Feed::new(self.writer.artifact(&artifact_name(&planned.name), MEDIA))?;
        feed.write_all(&planned.head.encode()).map_err(unreadable)?;
        let large = self.large.remove(&planned.name).unwrap_or_default();
        self.open = Some(Open { in_dump, feed, blocks: planned.blocks, block: None, large });
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if !open.blocks.is_empty() || open.block.is_some() {
            return Err(differs());
        }
        self.ended.push((open.in_dump, open.feed.end()?));
        Ok(())
    }

    /// Ends the last archive, and writes those of databases without a table.
    fn finish(mut self) -> Result<Vec<(InDump, PendingArtifact)>> {
        self.close()?;
        while let Some((in_dump, planned)) = self.planned.pop_first() {
            self.open(in_dump, planned)?;
            self.close()?;
        }
        Ok(self.ended)
    }

    /// What is open, if that is the database.
    fn at(&mut self, database: Option<&str>) -> Result<Option<&mut Open>> {
        let key: InDump = database.map(str::to_owned);
        if let Some(planned) = self.planned.remove(&key) {
            self.close()?;
            self.open(key.clone(), planned)?;
        }
        Ok(self.open.as_mut().filter(|open| open.in_dump == key))
    }
}

impl Visit for Writing {
    fn statement(&mut self, _: Of<'_>, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn copy(&mut self, of: Of<'_>, sql: &[u8]) -> Result<()> {
        let Of::In(database) = of else { return Ok(()) };
        let Some(open) = self.at(database)? else { return Ok(()) };
        let text = String::from_utf8_lossy(sql);
        let mut words = Words::new(&text);
        words.skip("COPY");
        let table = words.qualified().ok_or_else(differs)?;
        let entry = open.blocks.pop_front().ok_or_else(differs)?;
        let large = open.large.contains(&table);
        open.block = Some(Block::begin(entry, large, &mut open.feed).map_err(unreadable)?);
        Ok(())
    }

    fn rows(&mut self, rows: &[u8]) -> Result<()> {
        match &mut self.open {
            Some(Open { block: Some(block), feed, .. }) => block.rows(rows, feed).map_err(unreadable),
            _ => Ok(()),
        }
    }

    fn copied(&mut self, _: u64) -> Result<()> {
        match &mut self.open {
            Some(Open { block, feed, .. }) => match block.take() {
                Some(block) => block.end(feed).map_err(unreadable),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }
}
