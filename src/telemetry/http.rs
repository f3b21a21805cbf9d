//! HTTP for what is told elsewhere: Sentry, webhooks, a Pushgateway. Every call has a time limit.

use crate::error::{Error, Kind, Result};
use std::time::Duration;

/// A client whose calls end by then. The proxies of the environment are honoured; redirects are not followed, since a
/// ping that is sent elsewhere is a ping that was not delivered.
///
/// # Errors
/// [`Kind::Internal`] when the machine's certificates cannot be used.
pub fn client(limit: Duration) -> Result<reqwest::Client> {
    reqwest::Client::builder()
        .connect_timeout(limit)
        .timeout(limit)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("backstay/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| Error::new(Kind::Internal, "no HTTP client can be made").because(e))
}

/// A failed call in one line, without the URL: that of a hook is a secret.
pub fn why(e: reqwest::Error) -> String {
    let e = e.without_url();
    let mut text = e.to_string();
    let mut cause = std::error::Error::source(&e);
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    text
}
