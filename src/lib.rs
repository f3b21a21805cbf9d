//! Backstay.
pub mod error;
pub mod model;
pub mod repository;
pub mod sources;
pub mod storage;
pub mod telemetry;
