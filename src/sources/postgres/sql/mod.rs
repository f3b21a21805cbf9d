//! Dumps in SQL, as `pg_dump --format=plain` and `pg_dumpall` write them: taken apart while they stream by, one database
//! cut out of a whole cluster, loaded by `psql` so that every error counts.
//!
//! [`lexer`] finds statements and rows as `psql` itself would, since a line that looks like `\connect` may stand in the
//! body of a function. [`walk`] follows the dump through its databases to its end marker, [`search_path`] what names
//! without a schema mean in it. [`facts`] is what it holds, [`cut`] what of it is given to `psql`, and [`load`] gives
//! it. [`archive`] writes a dump again as `pg_dump --format=custom` would have.

pub mod archive;
pub mod cut;
pub mod facts;
pub mod lexer;
pub mod load;
pub mod names;
pub mod search_path;
pub mod walk;

/// The media type of an artifact that is such a dump of one database.
pub const MEDIA: &str = "pg-plain";
