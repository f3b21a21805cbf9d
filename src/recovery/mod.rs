//! The way back: picking a backup, and replacing what is live by what it holds, so that what was there before stays until
//! the new is proven.
//!
//! What is asked for is in [`asked`]; [`select`] finds the backup that is meant, and [`resources`] what is to be replaced.
//!
//! [`resource`] is what the restore flow knows of each kind of thing: [`trees`] are files ([`tree`] writes them), [`volume`]
//! Docker volumes, [`images`] images, [`redis`] servers, [`database`] databases ([`chosen`] says which, [`bare`] makes and
//! drops them), [`tables`] some tables of one ([`wanted`] finds them), [`rows`] the rows alone, [`inplace`] databases where
//! there is no room for two (`dropped` says which those are, `marked` tells them apart), [`cluster`] whole servers, [`command`] what programs take back; [`host`] says what of a machine
//! may be put into another one's place. Paths change places by [`swapping`]: by an [`exchange`], or what is [`inner`] to
//! them, with what is left out moving [`along`]. What was staged is counted by `count`.
//!
//! [`flow`] is what is done around the exchange: [`maintenance`] shows nginx's clients a page, [`application`] is held, stopped
//! and started, [`reload`] has restored files take effect, [`checks`] tell whether the application is well, [`hooks`] do what
//! else is to be done. [`outline`] says all of it before anything happens.
//!
//! [`fresh`] is the way back onto a machine that has nothing yet.
//!
//! [`steps`] puts everything in its order, [`engine`] runs it, [`journal`] is what survives a crash, and [`restore`] is the
//! whole. [`report`] tells how it went, [`by_hand`] what is left to do, and [`rollback`] takes one back later.
//! A [`drill`] is the first half of a restore, for proof.

pub mod along;
pub mod application;
pub mod asked;
pub mod bare;
pub mod by_hand;
pub mod checks;
pub mod chosen;
pub mod cluster;
pub mod command;
mod count;
pub mod database;
pub mod drill;
mod dropped;
pub mod engine;
pub mod exchange;
pub mod flow;
pub mod fresh;
pub mod hooks;
pub mod host;
pub mod images;
pub mod inner;
pub mod inplace;
pub mod journal;
pub mod maintenance;
mod marked;
pub mod outline;
pub mod redis;
pub mod reload;
pub mod report;
pub mod resource;
pub mod resources;
pub mod restore;
pub mod rollback;
pub mod rows;
pub mod select;
pub mod steps;
pub mod swapping;
pub mod tables;
pub mod tree;
pub mod trees;
pub mod volume;
pub mod wanted;
