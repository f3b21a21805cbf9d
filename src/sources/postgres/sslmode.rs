//! libpq's `sslmode`: how a connection is encrypted, and what is checked.

use crate::error::{Error, Kind, Result};
use std::str::FromStr;

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SslMode {
    /// Never TLS.
    Disable,
    /// TLS when the server has it and takes us over it; checks nothing.
    Prefer,
    /// TLS; checks nothing unless there is a root certificate.
    Require,
    /// TLS with a certificate that the root signed.
    VerifyCa,
    /// The same, and the certificate is for this host.
    VerifyFull,
}

impl FromStr for SslMode {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self> {
        Ok(match s {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "require" => SslMode::Require,
            "verify-ca" => SslMode::VerifyCa,
            "verify-full" => SslMode::VerifyFull,
            _ => {
                return Err(Error::new(Kind::Config, format!("{s:?} is not an sslmode"))
                    .hint("Use disable, prefer, require, verify-ca or verify-full."));
            }
        })
    }
}

impl SslMode {
    /// Its word.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}
