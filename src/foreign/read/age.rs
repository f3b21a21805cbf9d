//! Files of age, binary or armoured.

use super::fault::Fault;
use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use ::age::armor::ArmoredReader;
use ::age::secrecy::SecretString;
use ::age::{DecryptError, Decryptor, Identity, IdentityFile, scrypt};
use std::io::{BufReader, Read};
use std::path::Path;

/// What opens a file.
pub struct Keys(Vec<Box<dyn Identity + Send>>);

impl Keys {
    /// From a passphrase or a file of identities.
    ///
    /// # Errors
    /// [`Kind::Key`] when that holds none.
    pub fn read(passphrase: Option<&Secret>, file: Option<&Path>) -> Result<Self> {
        let mut keys: Vec<Box<dyn Identity + Send>> = Vec::new();
        if let Some(passphrase) = passphrase {
            keys.push(Box::new(scrypt::Identity::new(SecretString::from(passphrase.expose().to_owned()))));
        }
        if let Some(path) = file {
            let unusable = |e: std::io::Error| {
                Error::io("the identity for a foreign backup cannot be read", path, e).kind(Kind::Key)
            };
            let file = std::fs::File::open(path).map_err(unusable)?;
            let identities = IdentityFile::from_buffer(BufReader::new(file)).map_err(unusable)?;
            let identities = identities.into_identities().map_err(|e| {
                Error::new(Kind::Key, "the identity cannot be used").at(path.display()).because(e.to_string())
            })?;
            keys.extend(identities.into_iter().map(|i| i as Box<dyn Identity + Send>));
        }
        Ok(Keys(keys))
    }
}

/// A reader of the plain bytes. What is wrong with the file shows at the first read.
pub struct Decrypting<R: Read> {
    inner: Option<R>,
    keys: Keys,
    fault: Fault,
    plain: Option<Box<dyn Read + Send>>,
}

impl<R: Read + Send + 'static> Decrypting<R> {
    /// Reads from `inner`.
    pub fn new(inner: R, keys: Keys, fault: Fault) -> Self {
        Decrypting { inner: Some(inner), keys, fault, plain: None }
    }

    fn begin(&self, inner: R) -> std::io::Result<Box<dyn Read + Send>> {
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(BufReader::new(inner)));
        let opened = decryptor.and_then(|d| d.decrypt(self.keys.0.iter().map(|k| k.as_ref() as &dyn Identity)));
        match opened {
            Ok(plain) => Ok(Box::new(plain)),
            Err(DecryptError::Io(e)) => {
                Err(self.fault.damaged("the file of age cannot be read", "Take another set.", e))
            }
            Err(e) => Err(self.fault.found(refused(&e))),
        }
    }
}

fn refused(e: &DecryptError) -> Error {
    match e {
        DecryptError::NoMatchingKeys | DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            Error::new(Kind::Key, "age cannot decrypt the file with this passphrase or identity")
                .because(e.to_string())
                .hint("Correct `passphrase_file` or `identity_file` in `encryption`.")
        }
        other => Error::new(Kind::Damaged, "this is no whole file of age").because(other.to_string()),
    }
}

impl<R: Read + Send + 'static> Read for Decrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if let Some(inner) = self.inner.take() {
            self.plain = Some(self.begin(inner)?);
        }
        match &mut self.plain {
            None => Ok(0),
            Some(plain) => plain
                .read(buffer)
                .map_err(|e| self.fault.damaged("the encrypted file is cut short or damaged", "Take another set.", e)),
        }
    }
}
