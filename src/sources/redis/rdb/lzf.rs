//! LZF, as Redis compresses strings. Needed for the few strings that are looked into.

/// Decompresses to exactly `length` bytes; `None` when the data is damaged.
pub fn decompress(mut packed: &[u8], length: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::new();
    while let Some((&control, rest)) = packed.split_first() {
        packed = rest;
        if control < 32 {
            let (literal, rest) = packed.split_at_checked(usize::from(control) + 1)?;
            out.extend_from_slice(literal);
            packed = rest;
        } else {
            let mut count = usize::from(control >> 5);
            if count == 7 {
                let (&more, rest) = packed.split_first()?;
                count += usize::from(more);
                packed = rest;
            }
            let (&low, rest) = packed.split_first()?;
            packed = rest;
            let back = (usize::from(control & 31) << 8 | usize::from(low)) + 1;
            let from = out.len().checked_sub(back)?;
            // The two may overlap: a run repeats what it has just written.
            for i in from..from + count + 2 {
                out.push(*out.get(i)?);
            }
        }
        if out.len() > length {
            return None;
        }
    }
    (out.len() == length).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_and_overlapping_runs_come_back() {
        assert_eq!(decompress(&[2, b'a', b'b', b'c'], 3).unwrap(), b"abc");
        // One literal, then a run of ten from one byte back.
        assert_eq!(decompress(&[0, b'x', 0xe0, 1, 0], 11).unwrap(), b"xxxxxxxxxxx");
    }

    #[test]
    fn damage_is_noticed_and_never_grows_past_the_length() {
        for bad in [&[2, b'a'][..], &[0x20, 5], &[0, b'x', 0xe0], &[0, b'x', 0xe0, 255, 0]] {
            assert_eq!(decompress(bad, 3), None, "{bad:?}");
        }
    }
}
