//! The end of a tar: two empty blocks. Whoever makes one and fails half way leaves them out.

use super::header::END;
use std::io::{Read, Result};

/// A stream that knows whether it ended as a whole tar does.
pub struct Whole<R> {
    inner: R,
    zeros: usize,
}

impl<R: Read> Whole<R> {
    /// Reads from a stream.
    pub fn new(inner: R) -> Self {
        Whole { inner, zeros: 0 }
    }

    /// Reads what is left, and says whether the last that came was the end of a tar.
    ///
    /// # Errors
    /// As the stream.
    pub fn ends(mut self) -> Result<bool> {
        std::io::copy(&mut self, &mut std::io::sink())?;
        Ok(self.zeros >= END.len())
    }
}

impl<R: Read> Read for Whole<R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.inner.read(buffer)?;
        let trailing = buffer[..n].iter().rev().take_while(|b| **b == 0).count();
        self.zeros = if trailing == n { self.zeros + n } else { trailing };
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_counts_however_it_is_read() {
        let tar = |zeros: usize| [&b"content"[..], &vec![0; zeros]].concat();
        for (zeros, whole) in [(0, false), (1023, false), (1024, true), (10_240, true)] {
            let content = tar(zeros);
            let mut stream = Whole::new(&content[..]);
            // What was read before counts too.
            stream.read_exact(&mut [0; 7]).unwrap();
            let _ = stream.read(&mut [0; 600]).unwrap();
            assert_eq!(stream.ends().unwrap(), whole, "{zeros}");
        }
    }
}
