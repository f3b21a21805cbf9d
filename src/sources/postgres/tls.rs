//! TLS as the settings of a server want it.

use super::connect::Server;
use super::sslmode::SslMode;
use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslFiletype, SslMethod, SslVerifyMode};
use postgres_openssl::MakeTlsConnector;

impl Server {
    /// What encrypts a connection.
    pub(super) fn tls(&self) -> Result<MakeTlsConnector, ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls())?;
        if let Some(root) = &self.sslrootcert {
            builder.set_ca_file(root)?;
        }
        if let Some((certificate, key)) = &self.client_certificate {
            builder.set_certificate_chain_file(certificate)?;
            builder.set_private_key_file(key, SslFiletype::PEM)?;
        }
        // libpq: `require` with a root certificate at hand behaves like `verify-ca`.
        let verify_chain = matches!(self.sslmode, SslMode::VerifyCa | SslMode::VerifyFull)
            || (self.sslmode == SslMode::Require && self.sslrootcert.is_some());
        if !verify_chain {
            builder.set_verify(SslVerifyMode::NONE);
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
