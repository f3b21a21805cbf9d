//! Content-defined cutting of streams and large files: FastCDC (Xia et al., 2020) over a table that is derived
//! from the vault secret, so that chunk lengths do not tell which known file was stored.
//!
//! Sizes were chosen by measurement (docs/performance.md): a smaller average finds more equal pieces after a
//! scattered change and costs longer recipes. The greatest chunk fits twice into a pack.

use super::secrets::VaultSecret;
use fastcdc::v2020::{Normalization, cut_gear, select_masks};

/// No chunk but the last is shorter.
pub const MIN: usize = 128 * 1024;
/// What FastCDC is asked for; the mean comes out at about 1.3 times this.
pub const AVG: usize = 512 * 1024;
/// No chunk is longer.
pub const MAX: usize = 2 * 1024 * 1024;

/// Cuts byte streams of one vault.
#[derive(Clone)]
pub struct Chunker {
    gear: Box<[u64; 256]>,
    gear_shifted: Box<[u64; 256]>,
    mask_short: u64,
    mask_long: u64,
}

impl Chunker {
    /// A chunker with the vault's table.
    pub fn new(secret: &VaultSecret) -> Self {
        let gear = Box::new(secret.cut_table());
        let gear_shifted = Box::new(std::array::from_fn(|i| gear[i] << 1));
        let (mask_short, mask_long) = select_masks(AVG, Normalization::Level1);
        Chunker { gear, gear_shifted, mask_short, mask_long }
    }

    /// Length of the first chunk of `data`, which must hold at least [`MAX`] bytes unless the stream ends with it.
    /// Zero only for an empty slice.
    pub fn cut(&self, data: &[u8]) -> usize {
        let window = &data[..data.len().min(MAX)];
        let (_, length) = cut_gear(
            window,
            MIN,
            AVG,
            MAX,
            self.mask_short,
            self.mask_long,
            self.mask_short << 1,
            self.mask_long << 1,
            &self.gear[..],
            &self.gear_shifted[..],
        );
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(c: &Chunker, mut data: &[u8]) -> Vec<usize> {
        let mut out = Vec::new();
        while !data.is_empty() {
            let n = c.cut(data);
            out.push(n);
            data = &data[n..];
        }
        out
    }

    fn noise(n: usize) -> Vec<u8> {
        let mut out = vec![0; n];
        blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
        out
    }

    #[test]
    fn chunks_cover_the_stream_within_their_bounds_and_find_their_place_again() {
        let c = Chunker::new(&VaultSecret::random());
        let data = noise(16 << 20);
        let cuts = lengths(&c, &data);
        assert_eq!(cuts.iter().sum::<usize>(), data.len());
        assert!(cuts[..cuts.len() - 1].iter().all(|n| (MIN..=MAX).contains(n)));
        // An insertion near the front leaves the later cuts where they were.
        let shifted = [&data[..1000], b"inserted", &data[1000..]].concat();
        let again = lengths(&c, &shifted);
        let same = cuts.iter().rev().zip(again.iter().rev()).take_while(|(a, b)| a == b).count();
        assert!(same + 4 > cuts.len(), "{same} of {}", cuts.len());
    }

    #[test]
    fn another_vault_cuts_elsewhere() {
        let data = noise(8 << 20);
        let cut = || lengths(&Chunker::new(&VaultSecret::random()), &data);
        assert_ne!(cut(), cut());
    }

    #[test]
    fn constant_bytes_and_empty_input_end() {
        let c = Chunker::new(&VaultSecret::random());
        assert_eq!(c.cut(&[]), 0);
        assert_eq!(lengths(&c, &vec![0; 5 << 20]).iter().sum::<usize>(), 5 << 20);
    }
}
