//! Clusters of PostgreSQL whose files change places.
//!
//! [`pair`]s of directories take one place in turns, and [`copy`] makes the second of them. A [`cold`] copy of the whole
//! server stands for what a restore in place drops; that is [`work`] on a thread of its own,
//! and takes back what others have [`written`]. A [`fresh`] cluster, [`made`] beside it, takes the place of one that does not
//! start, and has its [`settings`].

pub mod cold;
pub mod copy;
pub mod fresh;
pub mod made;
pub mod pair;
pub mod settings;
pub mod work;
pub mod written;
