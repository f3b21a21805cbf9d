//! TLS as the settings of a server want it, with libpq's files where they name none: our own connections trust whom its
//! programs trust.
//!
//! The Rust client knows full verification only, so libpq's modes are mapped here: `require` checks nothing unless
//! there is a root certificate, `verify-ca` the chain, `verify-full` the chain and the name.

use super::connect::Server;
use super::home;
use super::sslmode::SslMode;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod, SslVerifyMode};
use openssl::x509::store::{X509Lookup, X509StoreBuilder};
use openssl::x509::verify::X509VerifyFlags;
use postgres_openssl::MakeTlsConnector;
use std::path::{Path, PathBuf};

/// What a root certificate is called that stands for those of the system.
const SYSTEM: &str = "system";

impl Server {
    /// Whether libpq, and `pg_dump` with it, refuses to connect at all: what verifies needs a root certificate, and
    /// those of the system count only when they are named.
    pub(super) fn lacks_root(&self) -> bool {
        matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull) && self.root().is_none()
    }

    fn root(&self) -> Option<PathBuf> {
        self.sslrootcert.clone().or_else(|| usual("PGSSLROOTCERT", "root.crt"))
    }

    /// What encrypts a connection.
    pub(super) fn tls(&self) -> Result<MakeTlsConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        let root = self.root();
        if let Some((certificate, key)) = self.client_certificate.clone().or_else(usual_client_certificate) {
            builder.set_certificate_chain_file(certificate)?;
            builder.set_private_key_file(key, SslFiletype::PEM)?;
        }
        // libpq: `require` with a root certificate at hand behaves like `verify-ca`.
        let verify_chain = matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull)
            || (self.sslmode == SslMode::Require && root.is_some());
        match root.filter(|root| root.as_os_str() != SYSTEM) {
            _ if !verify_chain => builder.set_verify(SslVerifyMode::NONE),
            Some(root) => trust_only(&mut builder, &root)?,
            // Those of the system, which the builder has.
            None => {}
        }
        let verify_name = self.sslmode == SslMode::VerifyFull;
        let mut connector = MakeTlsConnector::new(builder.build());
        connector.set_callback(move |connection, _| {
            connection.set_verify_hostname(verify_name);
            Ok(())
        });
        Ok(connector)
    }
}

/// Trusts these root certificates alone: the builder has those of the system, and a file would be added to them.
fn trust_only(builder: &mut SslConnectorBuilder, root: &Path) -> Result<(), ErrorStack> {
    let mut store = X509StoreBuilder::new()?;
    if let Some(revoked) = usual("PGSSLCRL", "root.crl") {
        store.add_lookup(X509Lookup::file())?.load_crl_file(revoked, SslFiletype::PEM)?;
        store.set_flags(X509VerifyFlags::CRL_CHECK | X509VerifyFlags::CRL_CHECK_ALL)?;
    }
    builder.set_cert_store(store.build());
    builder.set_ca_file(root)
}

/// The file that libpq takes when no setting names one: that of the environment, else the usual one if it is there.
fn usual(variable: &str, name: &str) -> Option<PathBuf> {
    let named = std::env::var_os(variable).filter(|path| !path.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(home::directory()?.join(".postgresql").join(name)).filter(|path| path.exists()))
}

/// libpq goes on without one that is not there.
fn usual_client_certificate() -> Option<(PathBuf, PathBuf)> {
    let certificate = usual("PGSSLCERT", "postgresql.crt").filter(|path| path.exists())?;
    Some((certificate, usual("PGSSLKEY", "postgresql.key")?))
}
