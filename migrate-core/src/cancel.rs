//! The wish that moves away from this host end soon.

use std::sync::{Arc, OnceLock};

use crate::error::{Error, Result};

/// Once made, a wish that holds for good, for every move that was given this or a clone of it: what can still be undone is undone. A
/// move that is past that is finished.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<OnceLock<String>>);

impl Cancel {
    /// Makes the wish. `why` is what the reports give as the reason; the first one stays.
    pub fn cancel(&self, why: &str) {
        let _ = self.0.set(why.into());
    }

    /// To be asked wherever a move can turn back.
    ///
    /// # Errors
    /// It is to turn back, and why.
    pub fn check(&self) -> Result<()> {
        self.0.get().map_or(Ok(()), |why| Err(Error::Refused(vec![why.clone()])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_reaches_every_clone_and_stays() {
        let cancel = Cancel::default();
        let clone = cancel.clone();
        assert!(clone.check().is_ok());
        cancel.cancel("first");
        cancel.cancel("second");
        assert_eq!(clone.check().expect_err("cancelled").to_string(), "first");
    }
}
