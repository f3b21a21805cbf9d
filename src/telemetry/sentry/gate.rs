//! The one way to Sentry: a queue that is emptied in the background. Everything that passes is scrubbed, as values and
//! not as text, so that escaping hides nothing.

use super::super::http;
use super::super::scrub::scrub_value;
use crate::error::Result;
use sentry::protocol::EnvelopeItem;
use sentry::types::Dsn;
use sentry::{Envelope, Transport};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// The limit of one call.
const LIMIT: Duration = Duration::from_secs(2);

enum Item {
    Send(Vec<u8>),
    /// Everything before it was sent, or given up.
    Mark(SyncSender<()>),
}

/// The way out.
pub struct Gate(UnboundedSender<Item>);

impl Gate {
    /// Opens it, on the runtime that is running.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn open(dsn: &Dsn) -> Result<Self> {
        let (sender, receiver) = unbounded_channel();
        let url = dsn.envelope_api_url().to_string();
        let auth = dsn.to_auth(Some(concat!("backstay/", env!("CARGO_PKG_VERSION")))).to_string();
        tokio::spawn(empty(receiver, http::client(LIMIT)?, url, auth));
        Ok(Gate(sender))
    }
}

/// What Sentry does not take, or does not take in time, is gone: nobody waits for it, and it fails nothing.
async fn empty(mut queue: UnboundedReceiver<Item>, client: reqwest::Client, url: String, auth: String) {
    while let Some(item) = queue.recv().await {
        match item {
            Item::Send(body) => {
                let request = client.post(&url).header("X-Sentry-Auth", &auth);
                let request = request.header("Content-Type", "application/x-sentry-envelope").body(body);
                let _ = request.send().await;
            }
            Item::Mark(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

impl Transport for Gate {
    fn send_envelope(&self, envelope: Envelope) {
        if let Some(body) = encode(&envelope) {
            let _ = self.0.send(Item::Send(body));
        }
    }

    fn flush(&self, timeout: Duration) -> bool {
        let (done, wait) = sync_channel(1);
        self.0.send(Item::Mark(done)).is_ok() && wait.recv_timeout(timeout).is_ok()
    }
}

fn value(of: &impl Serialize) -> Option<Value> {
    serde_json::to_value(of).ok()
}

/// The bytes of an envelope: a header, then for each item a header with its length, and itself.
fn encode(envelope: &Envelope) -> Option<Vec<u8>> {
    let mut items = Vec::new();
    for item in envelope.items() {
        let (kind, mut value) = match item {
            EnvelopeItem::Event(event) => ("event", value(event)?),
            EnvelopeItem::Transaction(transaction) => ("transaction", value(transaction)?),
            EnvelopeItem::MonitorCheckIn(check_in) => ("check_in", value(check_in)?),
            // Attachments, sessions, logs: nothing here makes them, and what is not scrubbed does not pass.
            _ => continue,
        };
        scrub_value(&mut value);
        items.push((kind, serde_json::to_vec(&value).ok()?));
    }
    if items.is_empty() {
        return None;
    }
    let header = match envelope.uuid() {
        Some(id) => json!({ "event_id": id.simple().to_string() }),
        None => json!({}),
    };
    let mut bytes = format!("{header}\n").into_bytes();
    for (kind, item) in items {
        bytes.extend(format!("{}\n", json!({ "type": kind, "length": item.len() })).into_bytes());
        bytes.extend(item);
        bytes.push(b'\n');
    }
    Some(bytes)
}
