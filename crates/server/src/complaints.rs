//! Broken rules of the tailnet policy, said in the log when they arrive: an administrator must mend them.
//!
//! Each netmap brings all rules that it grants to anybody, and each of them that cannot be read is said once, until it is
//! mended or changed. A request whose caller holds one that was not said yet says it too; he himself is told by the
//! refusal of whatever he asks for.

use std::collections::BTreeSet;

use countersign_oauth::{
    caller::Caller,
    policy::{CAPABILITY, Policy},
};
use parking_lot::Mutex;

use crate::peer::Directory;

/// Broken rules that are remembered and said at once; there are more only in a policy that nobody has tried.
const MOST: usize = 64;
/// How much of a rule the log shows, in characters.
const SHOWN: usize = 400;

/// The broken rules that were said, by their texts.
#[derive(Default)]
pub(crate) struct Complaints(Mutex<BTreeSet<String>>);

impl Complaints {
    /// Reviews the rules of each netmap, the present one first, for ever.
    pub(crate) async fn run(&self, directory: &dyn Directory) {
        let mut changes = directory.changes();
        loop {
            self.review(&directory.rules());
            // An error means that the node has stopped, and that no netmap comes any more.
            if changes.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Says which of `rules`, all that are granted to anybody, cannot be read. Those that were said and are gone count as
    /// mended. Returns how many it said.
    fn review(&self, rules: &[String]) -> usize {
        let broken: Vec<(&String, String)> = rules
            .iter()
            .filter_map(|rule| {
                let policy = Policy::parse([rule.as_str()]);
                let problem = policy.errors().first()?.problem.to_string();
                Some((rule, problem))
            })
            .take(MOST)
            .collect();
        let mended = {
            let mut said = self.0.lock();
            let before = said.len();
            said.retain(|rule| broken.iter().any(|(known, _)| *known == rule));
            before > 0 && said.is_empty() && broken.is_empty()
        };
        if mended {
            tracing::info!(event = "policy_mended", "every rule of {CAPABILITY} can be read again");
        }
        let new = broken.iter().filter(|(rule, _)| self.is_new(rule));
        new.map(|(rule, problem)| {
            tracing::error!(
                event = "policy_broken",
                "a rule of {CAPABILITY} in the tailnet policy cannot be read: {problem}. Until it is mended, nodes that hold \
                 it are granted nothing here: {}",
                shown(rule)
            );
        })
        .count()
    }

    /// Says what is wrong with the rules that were granted to `caller`, unless it was said before.
    pub(crate) fn hear(&self, caller: &Caller) {
        for error in caller.policy.errors() {
            let rule = caller.policy.text(error.number).unwrap_or_default();
            if self.is_new(rule) {
                let (user, node) = (caller.user_label(), &caller.node_name);
                tracing::error!(
                    event = "policy_broken",
                    user,
                    node,
                    "{error}; until it is mended the tailnet policy grants {user} on {node} nothing here: {}",
                    shown(rule)
                );
            }
        }
    }

    fn is_new(&self, rule: &str) -> bool {
        let mut said = self.0.lock();
        if said.contains(rule) {
            return false;
        }
        if said.len() >= MOST {
            said.clear();
        }
        said.insert(rule.to_owned())
    }
}

/// A rule on one line of the log.
fn shown(rule: &str) -> String {
    let line = rule.chars().map(|c| if c.is_control() { ' ' } else { c });
    line.take(SHOWN).collect()
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

    #[test]
    fn a_broken_rule_is_said_when_it_arrives_and_again_only_when_it_comes_back() {
        let complaints = Complaints::default();
        let rules = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let (good, broken) = (r#"{"allow_dcr":true}"#, r#"{"users":["*"],"deny":true}"#);
        assert_eq!(complaints.review(&rules(&[good])), 0);
        assert_eq!(complaints.review(&rules(&[good, broken])), 1);
        assert_eq!(complaints.review(&rules(&[broken, good])), 0, "said once");
        assert_eq!(complaints.review(&rules(&[broken, r#"{"scopes":[]}"#])), 1);
        assert_eq!(complaints.review(&rules(&[good])), 0, "mended");
        assert_eq!(complaints.review(&rules(&[broken])), 1, "it came back");
        let many: Vec<String> = (0..500).map(|number| format!(r#"{{"deny":{number}}}"#)).collect();
        assert!(complaints.review(&many) <= MOST);
        assert!(complaints.0.lock().len() <= MOST);
    }

    #[test]
    fn the_log_shows_a_rule_on_one_line_and_no_more_of_it_than_needed() {
        let long = format!("{{\n\"users\": [\"{}\"]}}", "a".repeat(1000));
        assert_eq!(shown(&long).chars().count(), SHOWN);
        assert!(!shown(&long).contains('\n'));
    }
}
