//! A large file tells of its bytes as they are read, and not when all of it has been.

use crate::telemetry::monitor::{Event, Monitor};
use std::io::{Read, Result};

/// Content that tells a monitor of what was read of it.
pub struct Telling<'a, R> {
    /// The content.
    pub content: R,
    /// Who is told.
    pub monitor: &'a dyn Monitor,
}

impl<R: Read> Read for Telling<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let n = self.content.read(buffer)?;
        self.monitor.event(Event::Read(n as u64));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[derive(Default)]
    struct Seen(Mutex<Vec<u64>>);

    impl Monitor for Seen {
        fn event(&self, event: Event) {
            if let Event::Read(bytes) = event {
                self.0.lock().unwrap().push(bytes);
            }
        }
    }

    #[test]
    fn bytes_are_told_of_one_read_after_the_other() {
        let seen = Seen::default();
        let mut content = Telling { content: &b"0123456789"[..], monitor: &seen };
        let mut buffer = [0; 6];
        assert_eq!(content.read(&mut buffer).unwrap(), 6);
        assert_eq!(*seen.0.lock().unwrap(), [6]);
        assert_eq!(content.read(&mut buffer).unwrap(), 4);
        assert_eq!(*seen.0.lock().unwrap(), [6, 4]);
    }
}
