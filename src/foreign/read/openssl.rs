//! What `openssl enc` writes: eight bytes of magic, eight of salt, then the cipher's blocks. There is no checksum in it:
//! a wrong password shows by what comes out, and at the latest by the padding at the end.

use super::super::layout::OpensslEnc;
use super::fault::{Fault, Peeked};
use super::known::{self, Wanted};
use crate::error::{Error, Kind, Result};
use ::openssl::hash::MessageDigest;
use ::openssl::pkcs5::{bytes_to_key, pbkdf2_hmac};
use ::openssl::symm::{Cipher, Crypter, Mode};
use std::io::Read;
use zeroize::Zeroizing;

const MAGIC: &[u8] = b"Salted__";
const SALT: usize = 8;
/// Bytes that are decrypted at once.
const PIECE: usize = 64 << 10;
/// What `-pbkdf2` takes when no number is given.
pub const DEFAULT_ITERATIONS: u32 = 10_000;
/// Digests that were the default of some version, or that people give.
const DIGESTS: &[&str] = &["sha256", "md5", "sha512", "sha1"];

/// The cipher of a name.
pub fn cipher(name: &str) -> Option<Cipher> {
    Some(match name.to_ascii_lowercase().as_str() {
        "aes-128-cbc" | "aes128" => Cipher::aes_128_cbc(),
        "aes-192-cbc" | "aes192" => Cipher::aes_192_cbc(),
        "aes-256-cbc" | "aes256" => Cipher::aes_256_cbc(),
        "aes-128-ctr" => Cipher::aes_128_ctr(),
        "aes-192-ctr" => Cipher::aes_192_ctr(),
        "aes-256-ctr" => Cipher::aes_256_ctr(),
        "camellia-128-cbc" => Cipher::camellia_128_cbc(),
        "camellia-192-cbc" => Cipher::camellia_192_cbc(),
        "camellia-256-cbc" => Cipher::camellia_256_cbc(),
        "des-ede3-cbc" | "des3" => Cipher::des_ede3_cbc(),
        _ => return None,
    })
}

/// Whether a digest of this name is known.
pub fn is_digest(name: &str) -> bool {
    MessageDigest::from_name(name).is_some()
}

/// A reader of the plain bytes.
pub struct Decrypting<R> {
    inner: R,
    options: OpensslEnc,
    wanted: Wanted,
    fault: Fault,
    state: Option<State>,
    out: Zeroizing<Vec<u8>>,
    at: usize,
}

struct State {
    crypter: Crypter,
    block: usize,
    /// Whether the first bytes looked right.
    fits: Option<bool>,
    /// Bytes read ahead of the cipher.
    ahead: Vec<u8>,
    bytes: u64,
    ended: bool,
}

impl<R: Read> Decrypting<R> {
    /// Reads from `inner`; `wanted` is what should come out.
    pub fn new(inner: R, options: OpensslEnc, wanted: Wanted, fault: Fault) -> Self {
        Decrypting { inner, options, wanted, fault, state: None, out: Zeroizing::default(), at: 0 }
    }

    fn begin(&mut self) -> std::io::Result<State> {
        let mut head = Peeked::new(&mut self.inner, MAGIC.len() + SALT + PIECE)?;
        let first = head.first().to_vec();
        let _ = head.read(&mut [0; 1]);
        let Some(rest) = first.strip_prefix(MAGIC).filter(|rest| rest.len() >= SALT) else {
            return Err(self.fault.found(not_salted(&first, self.wanted)));
        };
        let (salt, sealed) = rest.split_at(SALT);
        let salt = salt.to_vec();
        let fits = |options: &OpensslEnc| Some(self.wanted.fits(&trial(options, &salt, sealed)?));
        let fit = fits(&self.options).flatten();
        if fit == Some(false) {
            let better = others(&self.options).into_iter().find(|o| fits(o).flatten() == Some(true));
            return Err(self.fault.found(wrong(&self.options, better.as_ref())));
        }
        let (crypter, block) = crypter(&self.options, &salt).map_err(|e| self.fault.found(e))?;
        Ok(State { crypter, block, fits: fit, ahead: sealed.to_vec(), bytes: 0, ended: false })
    }

    /// Decrypts the next piece into `out`.
    fn fill(&mut self) -> std::io::Result<()> {
        if self.state.is_none() {
            self.state = Some(self.begin()?);
        }
        let Some(state) = &mut self.state else { return Ok(()) };
        if state.ended {
            return Ok(());
        }
        let mut sealed = std::mem::take(&mut state.ahead);
        if sealed.is_empty() {
            sealed.resize(PIECE, 0);
            let n = loop {
                match self.inner.read(&mut sealed) {
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                    other => break other?,
                }
            };
            sealed.truncate(n);
        }
        state.bytes += sealed.len() as u64;
        self.out.clear();
        self.out.resize(sealed.len() + 2 * state.block, 0);
        self.at = 0;
        let broken = |e: ::openssl::error::ErrorStack| {
            self.fault.found(Error::new(Kind::Damaged, "the file cannot be decrypted").because(e))
        };
        let n = if sealed.is_empty() {
            state.ended = true;
            match state.crypter.finalize(&mut self.out) {
                Ok(n) => n,
                Err(_) => return Err(self.fault.found(bad_end(state))),
            }
        } else {
            state.crypter.update(&sealed, &mut self.out).map_err(broken)?
        };
        self.out.truncate(n);
        Ok(())
    }
}

impl<R: Read> Read for Decrypting<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at >= self.out.len() {
            if self.state.as_ref().is_some_and(|s| s.ended) {
                return Ok(0);
            }
            self.fill()?;
        }
        let n = buffer.len().min(self.out.len() - self.at);
        buffer[..n].copy_from_slice(&self.out[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

fn crypter(options: &OpensslEnc, salt: &[u8]) -> Result<(Crypter, usize)> {
    let unknown = |what: String| Error::new(Kind::Config, what);
    let cipher =
        cipher(&options.cipher).ok_or_else(|| unknown(format!("the cipher {} is not known", options.cipher)))?;
    let digest = MessageDigest::from_name(&options.digest)
        .ok_or_else(|| unknown(format!("the digest {} is not known", options.digest)))?;
    let failed =
        |e: ::openssl::error::ErrorStack| Error::new(Kind::Key, "no key can be made of the password").because(e);
    let password = options.password.expose().as_bytes();
    let (key, iv) = if options.pbkdf2 {
        let mut both = Zeroizing::new(vec![0; cipher.key_len() + cipher.iv_len().unwrap_or(0)]);
        pbkdf2_hmac(password, salt, options.iterations as usize, digest, &mut both).map_err(failed)?;
        let (key, iv) = both.split_at(cipher.key_len());
        (Zeroizing::new(key.to_vec()), iv.to_vec())
    } else {
        let pair = bytes_to_key(cipher, digest, password, Some(salt), 1).map_err(failed)?;
        (Zeroizing::new(pair.key), pair.iv.unwrap_or_default())
    };
    let iv = (!iv.is_empty()).then_some(&iv[..]);
    Ok((Crypter::new(cipher, Mode::Decrypt, &key, iv).map_err(failed)?, cipher.block_size()))
}

/// The first bytes as these options give them.
fn trial(options: &OpensslEnc, salt: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (mut crypter, block) = crypter(options, salt).ok()?;
    // One block more, since the last is held back for its padding.
    let sealed = &sealed[..sealed.len().min(known::ENOUGH + 2 * block)];
    let mut out = vec![0; sealed.len() + 2 * block];
    let n = crypter.update(sealed, &mut out).ok()?;
    out.truncate(n);
    Some(out)
}

/// The same password with options that other versions and other scripts use.
fn others(options: &OpensslEnc) -> Vec<OpensslEnc> {
    let mut all = Vec::new();
    for digest in DIGESTS {
        for (pbkdf2, iterations) in
            [(true, options.iterations), (true, DEFAULT_ITERATIONS), (true, 100_000), (false, options.iterations)]
        {
            all.push(OpensslEnc { digest: (*digest).to_owned(), pbkdf2, iterations, ..options.clone() });
        }
    }
    all
}

fn wrong(options: &OpensslEnc, better: Option<&OpensslEnc>) -> Error {
    let says = |o: &OpensslEnc| match o.pbkdf2 {
        true => format!("digest = \"{}\", pbkdf2 = true, iter = {}", o.digest, o.iterations),
        false => format!("digest = \"{}\", pbkdf2 = false", o.digest),
    };
    match better {
        Some(better) => Error::new(Kind::Key, "the password is right, and the digest or the iterations are not")
            .because(format!("with {} it decrypts to noise, with {} to what it should be", says(options), says(better)))
            .hint(format!("Write {} in `encryption`.", says(better))),
        None => Error::new(Kind::Key, "the file does not decrypt with this password")
            .because(format!("with {} and {} what comes out is noise", options.cipher, says(options)))
            .hint(
                "Check the password first; then `cipher`, `digest` and `iter` as the script gave them to openssl enc.",
            ),
    }
}

fn bad_end(state: &State) -> Error {
    let hint = "Take another set, or fetch this file again from where it was copied.";
    if !state.bytes.is_multiple_of(state.block as u64) {
        return Error::new(Kind::Damaged, "the encrypted file is cut short")
            .because(format!("{} bytes are no whole number of blocks of {}", state.bytes, state.block))
            .hint(hint);
    }
    match state.fits {
        Some(true) => Error::new(Kind::Damaged, "the encrypted file is cut short or damaged")
            .because("its beginning decrypts as it should, and its end has no padding")
            .hint(hint),
        _ => Error::new(Kind::Key, "the file does not decrypt with this password")
            .because("its end has no padding")
            .hint("Check the password, `cipher`, `digest` and `iter`; if they are right, the file is cut short."),
    }
}

fn not_salted(first: &[u8], wanted: Wanted) -> Error {
    let what = if first.starts_with(b"U2FsdGVkX1") {
        "it is written as base64 (`openssl enc -a`), which is not read"
    } else if wanted.fits(first) == Some(true) {
        "it is not encrypted at all"
    } else if first.len() < MAGIC.len() + SALT {
        "it is cut short"
    } else {
        "it does not begin with Salted__"
    };
    Error::new(Kind::Damaged, "this is no file of openssl enc")
        .because(what)
        .hint("Correct `encryption` of this file in the layout.")
}

#[cfg(test)]
mod tests {
    use super::super::super::layout::{Compression, Is};
    use super::*;
    use crate::config::secret::Secret;

    fn options(digest: &str, pbkdf2: bool, iterations: u32, password: &str) -> OpensslEnc {
        OpensslEnc {
            cipher: "aes-256-cbc".into(),
            pbkdf2,
            iterations,
            digest: digest.into(),
            password: Secret::new(password.into()),
        }
    }

    fn sealed(plain: &[u8], args: &[&str]) -> Vec<u8> {
        use std::io::Write;
        let mut child = std::process::Command::new("openssl")
            .args(["enc", "-aes-256-cbc", "-k", "pä ss"])
            .args(args)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        let plain = plain.to_vec();
        let writing = std::thread::spawn(move || input.write_all(&plain).unwrap());
        let out = child.wait_with_output().unwrap();
        writing.join().unwrap();
        assert!(out.status.success());
        out.stdout
    }

    fn opened(sealed: &[u8], options: OpensslEnc, is: Is) -> std::result::Result<Vec<u8>, Error> {
        let rule = FileRuleFor { is };
        let fault = Fault::default();
        let mut out = Vec::new();
        let wanted = Wanted::of(&rule.rule());
        match Decrypting::new(sealed, options, wanted, fault.clone()).read_to_end(&mut out) {
            Ok(_) => Ok(out),
            Err(_) => Err(fault.take().unwrap()),
        }
    }

    struct FileRuleFor {
        is: Is,
    }

    impl FileRuleFor {
        fn rule(&self) -> super::super::super::layout::FileRule {
            super::super::super::layout::FileRule {
                pattern: super::super::super::pattern::Pattern::parse("x{timestamp}").unwrap(),
                is: self.is,
                compression: Compression::None,
                encryption: Default::default(),
                source: None,
                database: None,
                entry: None,
                optional: false,
                path: None,
                members: Vec::new(),
                rooted: false,
            }
        }
    }

    #[test]
    fn what_openssl_wrote_is_read() {
        for length in [1, 15, 16, 17, 65_535, 65_536, 300_000] {
            let plain: Vec<u8> = b"SELECT 1;\n".iter().copied().cycle().take(length).collect();
            for (args, with) in [
                (&["-pbkdf2"][..], options("sha256", true, 10_000, "pä ss")),
                (&["-pbkdf2", "-iter", "77", "-md", "sha512"], options("sha512", true, 77, "pä ss")),
                (&["-md", "md5"], options("md5", false, 10_000, "pä ss")),
            ] {
                assert_eq!(opened(&sealed(&plain, args), with, Is::PgPlain).unwrap(), plain, "{length} {args:?}");
            }
        }
    }

    #[test]
    fn a_wrong_key_a_wrong_digest_and_a_cut_file_are_told_apart() {
        let plain = b"-- PostgreSQL database dump\nSELECT 1;\n".repeat(9_000);
        let file = sealed(&plain, &["-pbkdf2"]);
        let e = opened(&file, options("sha256", true, 10_000, "other"), Is::PgPlain).unwrap_err();
        assert_eq!(e.kind, Kind::Key);
        assert!(e.what.contains("does not decrypt with this password"), "{e}");
        let e = opened(&file, options("md5", false, 10_000, "pä ss"), Is::PgPlain).unwrap_err();
        assert!(e.what.contains("the password is right"), "{e}");
        assert!(e.hint.unwrap().contains("digest = \"sha256\", pbkdf2 = true, iter = 10000"));
        let right = || options("sha256", true, 10_000, "pä ss");
        let e = opened(&file[..file.len() - 16], right(), Is::PgPlain).unwrap_err();
        assert!(e.what.contains("cut short"), "{e}");
        let e = opened(&file[..file.len() - 3], right(), Is::PgPlain).unwrap_err();
        assert!(e.to_string().contains("no whole number of blocks"), "{e}");
        let e = opened(&plain, right(), Is::PgPlain).unwrap_err();
        assert!(e.to_string().contains("not encrypted at all"), "{e}");
        // Of something unknown only the end tells.
        let e = opened(&file, options("sha256", true, 10_000, "other"), Is::Other).unwrap_err();
        assert!(e.to_string().contains("does not decrypt"), "{e}");
    }
}
