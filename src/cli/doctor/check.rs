//! One thing that was looked at: what came out, and how to mend it.

use crate::error::{Error, Result};
use serde::Serialize;
use std::time::Duration;

/// How long one look may take. Whatever answers later would keep a backup or a restore waiting as well.
const LIMIT: Duration = Duration::from_secs(30);

/// What came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    /// As it should be.
    Good,
    /// It could not be asked.
    Unknown,
    /// It works, and should be otherwise.
    Warning,
    /// A backup or a restore will fail, or data is not safe.
    Bad,
}

/// A look at one thing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    /// What was looked at.
    pub name: String,
    /// What came out.
    pub outcome: Outcome,
    /// What was found.
    pub detail: String,
    /// How to mend it.
    #[serde(rename = "do")]
    pub remedy: Option<String>,
}

impl Check {
    fn new(name: impl Into<String>, outcome: Outcome, detail: impl Into<String>, remedy: Option<String>) -> Self {
        Check { name: name.into(), outcome, detail: detail.into(), remedy }
    }

    /// As it should be.
    pub fn good(name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(name, Outcome::Good, detail, None)
    }

    /// It works, and should be otherwise.
    pub fn warning(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Outcome::Warning, detail, Some(remedy.into()))
    }

    /// Something will fail.
    pub fn bad(name: impl Into<String>, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Outcome::Bad, detail, Some(remedy.into()))
    }

    /// It could not be asked.
    pub fn unknown(name: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(name, Outcome::Unknown, why, Some(remedy.into()))
    }

    /// What an error says.
    pub fn failed(name: impl Into<String>, e: &Error) -> Self {
        Self::new(name, Outcome::Bad, e.one_line(), e.hint.clone())
    }

    /// The same as no more than a warning.
    #[must_use]
    pub fn mildly(mut self) -> Self {
        self.outcome = self.outcome.min(Outcome::Warning);
        self
    }
}

/// Looks, within a time. An error is what is wrong; no answer is no answer.
pub(super) async fn within(name: impl Into<String>, look: impl Future<Output = Result<Check>>) -> Check {
    limited(name.into(), LIMIT, look).await
}

async fn limited(name: String, limit: Duration, look: impl Future<Output = Result<Check>>) -> Check {
    match tokio::time::timeout(limit, look).await {
        Ok(Ok(check)) => check,
        Ok(Err(e)) => Check::failed(name, &e),
        Err(_) => Check::unknown(
            name,
            format!("no answer within {} s", limit.as_secs_f64()),
            "Whatever does not answer keeps backups and restores waiting too: look at it first.",
        ),
    }
}

/// The same for what waits in the kernel: a file system that hangs must not hang us.
pub(super) async fn of_files(
    name: impl Into<String>,
    look: impl FnOnce(&str) -> Result<Check> + Send + 'static,
) -> Check {
    let name = name.into();
    let own = name.clone();
    within(name, async move {
        let looked = tokio::task::spawn_blocking(move || look(&own)).await;
        looked.unwrap_or_else(|e| Err(Error::panicked("looking")(e)))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[tokio::test]
    async fn what_does_not_answer_is_told_as_such_and_an_error_with_its_remedy() {
        let silent = limited("x".into(), Duration::from_millis(50), std::future::pending()).await;
        assert_eq!((silent.outcome, silent.detail.as_str()), (Outcome::Unknown, "no answer within 0.05 s"));
        let e = || Error::new(Kind::Storage, "it is gone").at("here").hint("Bring it back.");
        let failed = within("x", async { Err(e()) }).await;
        assert_eq!((failed.outcome, failed.detail.as_str()), (Outcome::Bad, "it is gone: here"));
        assert_eq!(failed.remedy.as_deref(), Some("Bring it back."));
        assert_eq!(failed.mildly().outcome, Outcome::Warning);
        assert_eq!(Check::good("x", "y").mildly().outcome, Outcome::Good);
    }
}
