//! What a container said, for the message when it does not start.

use super::{Docker, checked};
use bollard::query_parameters::LogsOptionsBuilder;
use futures::StreamExt;
use std::time::Duration;

/// Lines that are shown.
const LINES: &str = "20";
/// How long the daemon may take. A message must not wait for it.
const PATIENCE: Duration = Duration::from_secs(10);

impl Docker {
    /// The last lines of a container. When they cannot be read, that is what it gives.
    pub async fn last_lines(&self, container: &str) -> String {
        let Ok(name) = checked(container) else { return String::new() };
        let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail(LINES).build();
        let read = async {
            let mut lines = self.api.logs(name, Some(options));
            let mut text = String::new();
            while let Some(line) = lines.next().await {
                text.push_str(&line?.to_string());
            }
            Ok::<_, bollard::errors::Error>(text)
        };
        match tokio::time::timeout(PATIENCE, read).await {
            Ok(Ok(text)) if text.trim().is_empty() => "(its log has no lines)".to_owned(),
            Ok(Ok(text)) => text.trim_end().to_owned(),
            Ok(Err(e)) => format!("(its log cannot be read: {e})"),
            Err(_) => "(its log cannot be read in time)".to_owned(),
        }
    }
}
