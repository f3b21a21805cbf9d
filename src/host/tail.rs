//! The end of what a program wrote to standard error, for the message when it fails.

use std::collections::VecDeque;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Lines that are kept.
const LINES: usize = 20;
/// Bytes of one line that are kept. A program that never ends its line must not fill the memory.
const WIDTH: usize = 2000;

/// Takes bytes as they come and keeps the last lines.
#[derive(Default)]
pub(super) struct Tail {
    lines: VecDeque<String>,
    line: Vec<u8>,
}

impl Tail {
    /// More of the stream.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            let (text, ended) = piece.strip_suffix(b"\n").map_or((piece, false), |text| (text, true));
            let room = WIDTH - self.line.len();
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            if ended {
                self.end_line();
            }
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if self.lines.len() == LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(&line)).into_owned());
    }

    /// The last lines.
    pub(super) fn lines(mut self) -> Vec<String> {
        if !self.line.is_empty() {
            self.end_line();
        }
        self.lines.into()
    }

    /// Reads a stream to its end.
    pub(super) async fn of(mut stream: impl AsyncRead + Unpin) -> Vec<String> {
        let mut tail = Tail::default();
        let mut buffer = vec![0; 8 * 1024];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            tail.push(&buffer[..n]);
        }
        tail.lines()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_stay_however_they_were_cut_and_however_long_they_are() {
        let mut tail = Tail::default();
        for n in 0..30 {
            tail.push(format!("line {n}").as_bytes());
            tail.push(b"\n");
        }
        tail.push(&[b'x'; 1_000_000]);
        tail.push(&[b'x'; 1_000_000]);
        let lines = tail.lines();
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].len()), (20, "line 11", WIDTH));
    }
}
