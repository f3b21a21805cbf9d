//! What befalls a server half way.

/// What every request meets from some moment on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The bucket is gone.
    NoBucket,
    /// The server takes the request and never answers.
    Silence,
}

/// What is counted until trouble begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Requests that write an object.
    Uploads,
    /// Requests that read one.
    Reads,
}

/// When which trouble begins.
#[derive(Default)]
pub struct Troubles {
    next: Option<(Counted, usize, Trouble)>,
}

impl Troubles {
    /// After so many more of these every request meets this.
    pub fn begin_after(&mut self, number: usize, counted: Counted, trouble: Trouble) {
        self.next = Some((counted, number, trouble));
    }

    /// All is as before.
    pub fn end(&mut self) {
        self.next = None;
    }

    /// What a request that comes now meets. It is one of these, or neither.
    pub fn meets(&mut self, request: Option<Counted>) -> Option<Trouble> {
        match &mut self.next {
            None => None,
            Some((_, 0, trouble)) => Some(*trouble),
            Some((counted, number, _)) => {
                *number -= usize::from(request == Some(*counted));
                None
            }
        }
    }
}
