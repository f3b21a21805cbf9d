//! Files of GnuPG, decrypted by `gpg` itself, in a home directory of its own that is gone afterwards: neither the keys
//! nor the agent of whoever runs us take part. The passphrase goes over the program's input, before the file.

use crate::config::secret::Secret;
use crate::error::{Error, Kind, Result};
use crate::host::exec::Program;
use crate::repository::reader::Pieces;
use bytes::Bytes;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

/// Bytes that are handed over at once.
const PIECE: usize = 256 << 10;

/// A home directory for one file; removed when dropped.
struct Home(PathBuf);

impl Home {
    fn make() -> Result<Self> {
        // Sockets of the agent lie in it, and their paths must be short.
        let path = std::env::temp_dir().join(format!("backstay-gpg-{:016x}", rand::random::<u64>()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&path)
            .map_err(|e| Error::io("a home directory for gpg cannot be made", &path, e))?;
        Ok(Home(path))
    }

    fn gpg(&self, args: &[&str]) -> Program {
        let home = self.0.display().to_string();
        let common =
            ["--batch", "--no-tty", "--quiet", "--no-options", "--homedir", &home, "--pinentry-mode", "loopback"];
        Program::new("gpg", common.iter().chain(args).map(|a| (*a).to_owned())).foreign()
    }

    async fn end(self) {
        let home = self.0.display().to_string();
        // Without an agent there is nothing to end.
        let _ = Program::new("gpgconf", ["--homedir", &home, "--kill", "all"]).foreign().output().await;
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Decrypts what comes.
///
/// # Errors
/// [`Kind::Key`] when the key cannot be taken in; [`Kind::Source`] without `gpg`.
pub async fn decrypt(sealed: Pieces, passphrase: Option<Secret>, key_file: Option<PathBuf>) -> Result<Pieces> {
    let home = Home::make()?;
    if let Some(file) = &key_file {
        import(&home, file, passphrase.as_ref()).await?;
    }
    let (running, input, output) = home.gpg(&["--passphrase-fd", "0", "--decrypt"]).duplex().await?;
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        let feeding = feed(input, sealed, passphrase);
        let taking = take(output, sender.clone());
        let (fed, taken) = tokio::join!(feeding, taking);
        let ended = running.finish(Kind::Key).await;
        home.end().await;
        // What the file could not give is told before what gpg made of it.
        let error = match (fed, ended, taken) {
            (Err(e), _, _) => Some(e),
            (Ok(()), Err(e), _) => Some(refused(&e)),
            (Ok(()), Ok(_), taken) => taken.err(),
        };
        if let Some(e) = error {
            let _ = sender.send(Err(e)).await;
        }
    });
    Ok(receiver)
}

async fn import(home: &Home, file: &Path, passphrase: Option<&Secret>) -> Result<()> {
    let key = std::fs::read(file).map_err(|e| Error::io("the key for gpg cannot be read", file, e).kind(Kind::Key))?;
    let (running, mut input) = home.gpg(&["--passphrase-fd", "0", "--import"]).writing().await?;
    let said = format!("{}\n", passphrase.map(Secret::expose).unwrap_or_default());
    let written = async {
        input.write_all(zeroize::Zeroizing::new(said).as_bytes()).await?;
        input.write_all(&key).await?;
        input.shutdown().await
    };
    let written = written.await;
    drop(input);
    running
        .finish(Kind::Key)
        .await
        .map_err(|e| e.at(file.display()).hint("It must be a private key, exported by gpg."))?;
    written.map_err(|e| Error::io("the key cannot be given to gpg", file, e).kind(Kind::Key))
}

async fn feed(mut input: crate::host::exec::Input, mut sealed: Pieces, passphrase: Option<Secret>) -> Result<()> {
    let line = zeroize::Zeroizing::new(format!("{}\n", passphrase.as_ref().map(Secret::expose).unwrap_or_default()));
    let mut listening = input.write_all(line.as_bytes()).await.is_ok();
    while let Some(piece) = sealed.recv().await {
        let piece = piece?;
        // When it is gone, its exit status says why; what is left is not needed.
        if !listening || input.write_all(&piece).await.is_err() {
            listening = false;
            break;
        }
    }
    if listening {
        let _ = input.shutdown().await;
    }
    Ok(())
}

async fn take(mut output: crate::host::exec::Output, sender: mpsc::Sender<Result<Bytes>>) -> Result<()> {
    loop {
        let mut piece = vec![0; PIECE];
        let n = output
            .read(&mut piece)
            .await
            .map_err(|e| Error::new(Kind::Source, "the output of gpg cannot be read").because(e))?;
        if n == 0 {
            return Ok(());
        }
        piece.truncate(n);
        if sender.send(Ok(piece.into())).await.is_err() {
            return Ok(());
        }
    }
}

fn refused(e: &Error) -> Error {
    let why = e.cause.as_ref().map(ToString::to_string).unwrap_or_default();
    let wrong_key = ["Bad session key", "Bad passphrase", "No secret key", "decryption failed", "No passphrase"];
    let cut = why.contains("premature eof") || why.contains("unexpected end") || why.contains("fatal: zlib");
    if cut {
        return Error::new(Kind::Damaged, "the encrypted file is cut short or damaged").because(why);
    }
    if wrong_key.iter().any(|w| why.contains(w)) {
        return Error::new(Kind::Key, "gpg cannot decrypt the file with this passphrase or key")
            .because(why)
            .hint("Correct `passphrase_file` or `key_file` in `encryption`.");
    }
    Error::new(e.kind, e.what.clone()).because(why)
}
