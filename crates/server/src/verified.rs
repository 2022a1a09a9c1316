//! Access tokens whose signature was checked already: a resource server that asks about one token again and again costs
//! one check.
//!
//! A signature stays what it is, so nothing here can become wrong: whether the token is still good is decided anew each
//! time, and the keys of a new snapshot begin with nothing known. Two generations of [`GENERATION`] tokens: when the
//! young one is full it becomes the old one, and who is asked about in time moves back.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

/// Tokens of one generation, about half a kilobyte each.
const GENERATION: usize = 1024;

/// The claims of tokens by the hash of their text.
#[derive(Default)]
pub(crate) struct Verified(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<[u8; 32], Arc<[u8]>>,
    old: HashMap<[u8; 32], Arc<[u8]>>,
}

impl Verified {
    /// The claims of `token`: known, or found by `check`. What fails is not remembered.
    pub(crate) fn claims(&self, token: &str, check: impl FnOnce() -> Option<Vec<u8>>) -> Option<Arc<[u8]>> {
        let name = Sha256::digest(token).into();
        if let Some(known) = self.0.lock().find(&name) {
            return Some(known);
        }
        // Not under the lock: a check takes as long as fifty look-ups.
        let claims: Arc<[u8]> = check()?.into();
        self.0.lock().keep(name, Arc::clone(&claims));
        Some(claims)
    }
}

impl Generations {
    fn find(&mut self, name: &[u8; 32]) -> Option<Arc<[u8]>> {
        if let Some(known) = self.young.get(name) {
            return Some(Arc::clone(known));
        }
        let (name, known) = self.old.remove_entry(name)?;
        self.keep(name, Arc::clone(&known));
        Some(known)
    }

    fn keep(&mut self, name: [u8; 32], claims: Arc<[u8]>) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_good_token_is_checked_once_and_a_bad_one_each_time() {
        let verified = Verified::default();
        assert!(verified.claims("bad", || None).is_none());
        assert_eq!(verified.claims("bad", || Some(b"1".into())).as_deref(), Some(&b"1"[..]));
        let known = verified.claims("bad", || panic!("checked again"));
        assert_eq!(known.as_deref(), Some(&b"1"[..]));
        assert!(verified.claims("other", || None).is_none());
    }

    #[test]
    fn only_the_latest_are_remembered_and_who_is_asked_about_stays() {
        let verified = Verified::default();
        for number in 0..3 * GENERATION {
            verified.claims(&number.to_string(), || Some(Vec::new()));
            assert!(verified.claims("0", || None).is_some(), "after {number}");
        }
        assert!(verified.claims("1", || None).is_none(), "forgotten");
        let generations = verified.0.lock();
        assert!(generations.young.len() <= GENERATION && generations.old.len() <= GENERATION);
    }
}
