//! What a person sees while something takes long: what began, how long it usually takes, and how long it took.

use std::time::Instant;

/// A step that was announced on standard error. Dropped without [`Step::done`], it says nothing more: the error does.
#[derive(Debug)]
#[must_use = "call done() when the step has ended"]
pub struct Step {
    what: String,
    began: Instant,
}

impl Step {
    /// Announces a step; `usual` says how long it usually takes, like "8 to 20 minutes".
    pub fn begin(what: impl Into<String>, usual: &str) -> Self {
        let what = what.into();
        eprintln!("· {what} (usually {usual}) …");
        Self { what, began: Instant::now() }
    }

    /// Says that the step has ended, and after how many seconds.
    pub fn done(self) {
        eprintln!("✓ {} ({:.1} s)", self.what, self.began.elapsed().as_secs_f64());
    }
}
