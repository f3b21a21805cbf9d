//! What befalls a server half way.

/// What every request meets from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The bucket is gone.
    NoBucket,
    /// The server takes the request and never answers.
    Silence,
}

/// When which trouble begins.
#[derive(Default)]
pub struct Troubles {
    next: Option<(usize, Trouble)>,
}

impl Troubles {
    /// After so many more uploads every request meets this.
    pub fn begin_after(&mut self, uploads: usize, trouble: Trouble) {
        self.next = Some((uploads, trouble));
    }

    /// All is as before.
    pub fn end(&mut self) {
        self.next = None;
    }

    /// What a request that comes now meets.
    pub fn meets(&mut self, is_upload: bool) -> Option<Trouble> {
        match &mut self.next {
            None => None,
            Some((0, trouble)) => Some(*trouble),
            Some((uploads, _)) => {
                *uploads -= usize::from(is_upload);
                None
            }
        }
    }
}
