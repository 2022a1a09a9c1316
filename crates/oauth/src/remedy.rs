//! What an administrator could change so that a refused request succeeds.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::policy::CAPABILITY;

/// One way to allow what was refused.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    /// Where something is changed, and what the change does.
    pub place: Cow<'static, str>,
    /// What is written there.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub add: Value,
    /// What stands there now and must be narrowed, mended or removed.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub change: Value,
}

impl Remedy {
    /// Something to add.
    pub fn add(place: impl Into<Cow<'static, str>>, add: impl Into<Value>) -> Self {
        Self {
            place: place.into(),
            add: add.into(),
            change: Value::Null,
        }
    }

    /// A line of `countersign.toml` on the server.
    pub fn setting(effect: &str, line: &str) -> Self {
        Self::add(format!("countersign.toml on this server: {effect}"), line)
    }

    /// A command for a terminal on the server.
    pub fn command(effect: &str, line: String) -> Self {
        Self::add(format!("a terminal on this server: {effect}"), line)
    }

    /// A grant of the tailnet policy: `rule` for `sources`, on the server that it calls `servers`.
    pub fn grant(effect: &str, sources: &[String], servers: &[String], rule: &Value) -> Self {
        Self::add(
            format!("the tailnet policy, in \"grants\": {effect}"),
            json!({ "src": sources, "dst": servers, "app": { CAPABILITY: [rule] } }),
        )
    }

    /// What is written there now or is to be, in the order in which people write it.
    pub fn lines(&self) -> Vec<String> {
        let text = if self.add.is_null() { &self.change } else { &self.add };
        match text {
            Value::String(line) => vec![line.clone()],
            Value::Object(grant) if grant.contains_key("app") => vec![
                format!(r#"{{"src": {}, "dst": {},"#, text["src"], text["dst"]),
                format!(r#" "app": {}}}"#, text["app"]),
            ],
            other => vec![other.to_string()],
        }
    }

    /// A rule of the tailnet policy that stands in the way.
    pub fn rule(number: usize, effect: &str, text: &str) -> Self {
        let rule = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
        Self {
            place: format!("the tailnet policy, rule {number} of {CAPABILITY}: {effect}").into(),
            add: Value::Null,
            change: rule,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_shown_as_people_write_it() {
        let names = |name: &str| [name.to_owned()];
        let grant = Remedy::grant("…", &names("alice@"), &names("tag:idp"), &json!({ "allow_dcr": true }));
        assert_eq!(
            grant.lines(),
            [
                r#"{"src": ["alice@"], "dst": ["tag:idp"],"#,
                r#" "app": {"tailscale.com/cap/tsidp":[{"allow_dcr":true}]}}"#
            ]
        );
        assert_eq!(
            Remedy::setting("…", "require_grant = false").lines(),
            ["require_grant = false"]
        );
        assert_eq!(
            Remedy::rule(1, "mend it", r#"{"deny":true}"#).lines(),
            [r#"{"deny":true}"#]
        );
    }
}
