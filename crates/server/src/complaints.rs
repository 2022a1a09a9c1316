//! Broken rules of the tailnet policy, said in the log when they arrive: an administrator must mend them.
//!
//! A policy comes with each request of its caller; each mistake is said once. The caller himself is told as well, by the
//! refusal of whatever he asks for.

use std::collections::BTreeSet;

use countersign_oauth::caller::Caller;
use parking_lot::Mutex;

/// Mistakes that are remembered; beyond that all are forgotten, and those that are still there are said again.
const MOST: usize = 64;

/// What was said before.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<BTreeSet<String>>);

impl Complaints {
    /// Says what is wrong with the rules that were granted to `caller`, unless it was said before.
    pub(crate) fn hear(&self, caller: &Caller) {
        for error in caller.policy.errors() {
            let error = error.to_string();
            if self.is_new(&error) {
                let (user, node) = (caller.user_label(), &caller.node_name);
                tracing::error!(
                    event = "policy_broken",
                    user,
                    node,
                    "{error}; until it is mended the tailnet policy grants {user} on {node} nothing here"
                );
            }
        }
    }

    fn is_new(&self, error: &str) -> bool {
        let mut said = self.0.lock();
        if said.contains(error) {
            return false;
        }
        if said.len() >= MOST {
            said.clear();
        }
        said.insert(error.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mistake_is_said_once_and_the_list_of_those_said_is_bounded() {
        let complaints = Complaints::default();
        assert!(complaints.is_new("rule 1"));
        assert!(!complaints.is_new("rule 1"));
        for number in 0..10 * MOST {
            complaints.is_new(&format!("rule {number}"));
        }
        assert!(complaints.0.lock().len() <= MOST);
    }
}
