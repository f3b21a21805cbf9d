//! Two directories that take one place in turns. The one that is not in place is in its home beside it.
//!
//! They do not change places in one call: between the two renames there is nothing in place, and a server that
//! looks there does not start. That counts where one cluster is several directories, and somebody starts it half way.
//! Which is which is told by device and inode.

use super::copy;
use super::work::Stop;
use crate::error::{Error, Kind, Result};
use crate::recovery::exchange::{Identity, identity};
use crate::recovery::inner::{rename, sync};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// What was there at the beginning.
    First,
    /// The other one.
    Second,
}

/// Both, and where each belongs; for the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// The place.
    pub place: PathBuf,
    /// What was there at the beginning, if anything.
    pub first: Option<Identity>,
    /// Where that is when it is not in place.
    pub first_home: PathBuf,
    /// Where the second one is when it is not in place.
    pub second_home: PathBuf,
    /// True when the second one's home is on another file system: it is copied into place, and the first one then goes.
    #[serde(default)]
    pub elsewhere: bool,
}

impl Pair {
    /// Which of them is in place, if one is.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be looked at.
    pub fn in_place(&self) -> Result<Option<Which>> {
        Ok(match identity(&self.place)? {
            None => None,
            found if found == self.first => Some(Which::First),
            Some(_) => Some(Which::Second),
        })
    }

    /// Whether the second one is whole and at home.
    ///
    /// # Errors
    /// [`Kind::Restore`] when it cannot be looked at.
    pub fn second_is_home(&self) -> Result<bool> {
        Ok(identity(&self.second_home)?.is_some())
    }

    fn home(&self, which: Which) -> &Path {
        match which {
            Which::First => &self.first_home,
            Which::Second => &self.second_home,
        }
    }

    fn moved(from: &Path, to: &Path) -> Result<()> {
        rename(from, to)?;
        [from, to].iter().filter_map(|p| p.parent()).try_for_each(sync)
    }

    /// Sends the other one home.
    fn clear(&self, wanted: Which) -> Result<()> {
        match self.in_place()? {
            Some(other) if other != wanted => {
                let home = self.home(other);
                if self.elsewhere && other == Which::Second {
                    return Err(Error::new(Kind::Restore, "a copy that was put back does not go away again")
                        .at(self.place.display()));
                }
                Self::moved(&self.place, home)
            }
            _ => Ok(()),
        }
    }

    /// Puts the wanted one in place, where nothing is.
    fn bring(&self, wanted: Which) -> Result<()> {
        if self.in_place()?.is_some() || (wanted == Which::First && self.first.is_none()) {
            return Ok(());
        }
        if wanted == Which::Second && self.elsewhere {
            // There is no room for both. The directory itself stays: a new one could get its inode, and would be taken for it.
            copy::empty(&self.first_home)?;
            let part = copy::part(&self.place);
            copy::tree(&self.second_home, &part, &Stop::default())?;
            return Self::moved(&part, &self.place);
        }
        Self::moved(self.home(wanted), &self.place)
    }
}

/// Puts all of the wanted ones in place, from wherever an earlier try ended. The first pair is that of the data directory,
/// and its place is empty while the others change. The server must have stopped.
///
/// # Errors
/// [`Kind::Restore`].
pub fn arrange(pairs: &[Pair], wanted: Which) -> Result<()> {
    let Some((main, others)) = pairs.split_first() else { return Ok(()) };
    if main.in_place()? == Some(wanted) {
        return Ok(());
    }
    main.clear(wanted)?;
    for pair in others {
        pair.clear(wanted)?;
        pair.bring(wanted)?;
    }
    main.bring(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn pair(dir: &Path, name: &str, elsewhere: bool) -> Pair {
        let at = |tail: &str| dir.join(format!("{name}{tail}"));
        for (path, text) in [(at(""), "first"), (at("_second"), "second")] {
            fs::create_dir(&path).unwrap();
            fs::write(path.join("x"), text).unwrap();
        }
        Pair {
            first: identity(&at("")).unwrap(),
            place: at(""),
            first_home: at("_first"),
            second_home: at("_second"),
            elsewhere,
        }
    }

    fn content(pair: &Pair) -> Option<String> {
        fs::read_to_string(pair.place.join("x")).ok()
    }

    #[test]
    fn each_way_may_be_gone_twice_and_from_any_point_between() {
        use Which::{First, Second};
        let dir = tempfile::tempdir().unwrap();
        let pairs = [pair(dir.path(), "data", false), pair(dir.path(), "space", false)];
        let look = |text: &str| assert!(pairs.iter().all(|p| content(p).as_deref() == Some(text)), "{text}");
        for (way, text) in
            [(Second, "second"), (Second, "second"), (First, "first"), (First, "first"), (Second, "second")]
        {
            arrange(&pairs, way).unwrap();
            look(text);
        }
        // Killed after each of the renames of either way, and gone on with either way.
        for (from, to) in [(Second, First), (First, Second)] {
            for killed_after in 1..4 {
                for on in [First, Second] {
                    arrange(&pairs, from).unwrap();
                    pairs[0].clear(to).unwrap();
                    assert_eq!(content(&pairs[0]), None, "a server that starts now must find nothing");
                    if killed_after > 1 {
                        pairs[1].clear(to).unwrap();
                    }
                    if killed_after > 2 {
                        pairs[1].bring(to).unwrap();
                    }
                    arrange(&pairs, on).unwrap();
                    look(if on == First { "first" } else { "second" });
                }
            }
        }
    }

    #[test]
    fn a_place_that_was_empty_is_so_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut one = pair(dir.path(), "data", false);
        fs::remove_dir_all(&one.place).unwrap();
        one.first = None;
        let pairs = [one];
        for _ in 0..2 {
            arrange(&pairs, Which::Second).unwrap();
            assert_eq!(content(&pairs[0]).as_deref(), Some("second"));
            arrange(&pairs, Which::First).unwrap();
            assert_eq!(content(&pairs[0]), None);
        }
    }

    #[test]
    fn a_copy_from_another_disk_is_put_back_whole_from_any_point_and_stays() {
        for killed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let pairs = [pair(dir.path(), "data", true)];
            if killed {
                pairs[0].clear(Which::Second).unwrap();
                fs::create_dir(copy::part(&pairs[0].place)).unwrap();
                fs::write(copy::part(&pairs[0].place).join("half"), "").unwrap();
            }
            for _ in 0..2 {
                arrange(&pairs, Which::Second).unwrap();
                assert_eq!(content(&pairs[0]).as_deref(), Some("second"));
                assert!(!pairs[0].place.join("half").exists() && pairs[0].second_is_home().unwrap());
            }
            assert!(arrange(&pairs, Which::First).is_err());
        }
    }
}
