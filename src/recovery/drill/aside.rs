//! What a drill only looks at: it is staged in a place of the drill's own, compared, and goes with that place. Nothing live
//! has such a thing, so nothing changes places.

use crate::error::{Error, Kind, Result};
use crate::recovery::resource::{Class, Compared, Findings, Note, Previous, Resource, StagedAs};
use async_trait::async_trait;

/// The half of a [`Resource`] that a drill carries out.
#[async_trait]
pub(super) trait Aside: Send + Sync {
    /// As [`Resource::label`].
    fn label(&self) -> String;

    /// As [`Resource::class`].
    fn class(&self) -> Class {
        Class::Tree
    }

    /// As [`Resource::preflight`].
    async fn preflight(&self) -> Result<Findings> {
        Ok(Findings::default())
    }

    /// As [`Resource::plan_staging`].
    async fn plan_staging(&self) -> Result<Note> {
        Ok(Note::Null)
    }

    /// As [`Resource::stage`].
    async fn stage(&self, staging: &Note) -> Result<Note>;

    /// As [`Resource::verify`].
    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>>;

    /// As [`Resource::staged_as`].
    fn staged_as(&self, _staged: &Note) -> Result<StagedAs> {
        Ok(StagedAs::default())
    }
}

/// It as a resource, of which the other half is never asked for.
pub(super) struct StagedOnly<T>(pub T);

fn nothing_live<T>() -> Result<T> {
    Err(Error::new(Kind::Internal, "a drill exchanges nothing"))
}

#[async_trait]
impl<T: Aside> Resource for StagedOnly<T> {
    fn label(&self) -> String {
        self.0.label()
    }

    fn class(&self) -> Class {
        self.0.class()
    }

    async fn preflight(&self) -> Result<Findings> {
        self.0.preflight().await
    }

    async fn plan_staging(&self) -> Result<Note> {
        self.0.plan_staging().await
    }

    async fn stage(&self, staging: &Note) -> Result<Note> {
        self.0.stage(staging).await
    }

    async fn verify(&self, staged: &Note) -> Result<Vec<Compared>> {
        self.0.verify(staged).await
    }

    async fn unstage(&self, _: &Note) -> Result<()> {
        // It goes with the drill's directory, or with its server.
        Ok(())
    }

    async fn plan_swap(&self, _: &Note) -> Result<Note> {
        nothing_live()
    }

    async fn swap(&self, _: &Note) -> Result<()> {
        nothing_live()
    }

    async fn unswap(&self, _: &Note) -> Result<()> {
        nothing_live()
    }

    async fn previous(&self, _: &Note) -> Result<Vec<Previous>> {
        nothing_live()
    }

    fn staged_as(&self, staged: &Note) -> Result<StagedAs> {
        self.0.staged_as(staged)
    }

    async fn drop_previous(&self, _: &Note) -> Result<()> {
        nothing_live()
    }
}
