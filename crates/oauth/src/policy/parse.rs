//! From the JSON text of one rule to a [`Rule`], or to what is wrong with it.
//!
//! tsidp's keys are read as tsidp reads them: in any case, `null` as absent, unknown ones ignored. Ours stand inside
//! `countersign` and are read strictly: a restriction that is misspelt must not be dropped.

use core::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::{Map, Value, value::RawValue};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    CAPABILITY,
    rule::{Nested, Rule},
};
use crate::{authorize::is_scope, claims, resource::Resource};

/// A rule that could not be understood, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {number} of {CAPABILITY}: {problem}")]
pub struct PolicyError {
    /// Which rule, counted from 1 in the order control sent them.
    pub number: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What can be wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not a JSON object.
    #[error("it is not a JSON object")]
    NotAnObject,
    /// A key that stands there twice: readers differ in which one they take.
    #[error("`{0}` stands there twice")]
    Twice(String),
    /// A key of ours where tsidp would ignore it and allow.
    #[error(
        "`{0}` stands beside tsidp's keys, where tsidp ignores it; move the whole rule into \"countersign\": {{…}}"
    )]
    Misplaced(String),
    /// A restriction of ours inside, while nobody is named there whom it would restrict. What stands outside is not restricted.
    #[error(
        "`countersign.{0}` restricts nothing, because `countersign` names no `users`, and nothing in it restricts what \
         stands beside it; name them inside, [\"*\"] for everybody to whom the rule is granted"
    )]
    RestrictsNothing(&'static str),
    /// A key about the node that holds the rule, together with one about other people, which would restrict nothing.
    #[error("`countersign.{key}` goes with {company} only; write `{other}` in a rule of its own")]
    Beside {
        /// The key that stands alone.
        key: &'static str,
        /// What may stand beside it.
        company: &'static str,
        /// What stands there.
        other: &'static str,
    },
    /// A name in a list of ours that can never be anybody's or anything's: what it should restrict or deny goes on.
    #[error("`countersign.{key}` names {name:?}, {why}")]
    Nothing {
        /// The list.
        key: String,
        /// The name.
        name: String,
        /// Why it is none, and what to write.
        why: &'static str,
    },
    /// A key inside `countersign` that means nothing.
    #[error("`countersign.{0}` is not a key this server knows")]
    UnknownKey(String),
    /// An extra claim with a name that only this server may give a value.
    #[error("`extraClaims.{0}` is a claim of this server's own and cannot be set")]
    ProtectedClaim(String),
    /// A value of the wrong type.
    #[error("`{key}` must be {expected}")]
    Type {
        /// The key as it was written.
        key: String,
        /// What belongs there.
        expected: &'static str,
    },
}

/// Reads rule `number`.
pub(super) fn rule(number: usize, text: &str) -> Result<Rule, Problem> {
    let mut rule = Rule {
        number,
        ..Rule::default()
    };
    for (key, value) in fields(text, str::to_ascii_lowercase).ok_or(Problem::NotAnObject)?? {
        if value.get() == "null" {
            continue;
        }
        match key.to_ascii_lowercase().as_str() {
            "allow_admin_ui" => rule.allow_admin_ui = boolean(&key, value)?,
            "allow_dcr" => rule.allow_dcr = boolean(&key, value)?,
            "users" => rule.users = strings(&key, value)?,
            "resources" => rule.resources = strings(&key, value)?,
            "includeinuserinfo" => rule.include_in_user_info = boolean(&key, value)?,
            "extraclaims" => rule.extra_claims = extra_claims(object(&key, value)?)?,
            "countersign" => rule.ours = Some(nested(value)?),
            "deny" | "expires" | "clients" | "scopes" | "publish_clients" | "introspect" => {
                return Err(Problem::Misplaced(key));
            }
            // A key of a later tsidp: ignored here as it is there.
            _ => {}
        }
    }
    Ok(rule)
}

/// A restriction that an allowing object carries without anybody whom it would allow something.
fn idle_restriction(ours: &Nested) -> Option<Problem> {
    if ours.deny || ours.publish_clients || !ours.users.is_empty() || !ours.introspect.is_empty() {
        return None;
    }
    let restrictions = [
        ("expires", ours.expires.is_some()),
        ("clients", !ours.clients.is_empty()),
        ("scopes", !ours.scopes.is_empty()),
        ("resources", !ours.resources.is_empty()),
    ];
    let idle = restrictions.iter().find(|(_, stands)| *stands);
    idle.map(|(key, _)| Problem::RestrictsNothing(key))
}

/// What would read like a restriction beside `introspect` or `publish_clients`, and be none.
fn beside(ours: &Nested) -> Option<Problem> {
    let publishes = ("publish_clients", ours.publish_clients);
    let clients = ("clients", !ours.clients.is_empty());
    let (key, company, foreign) = if !ours.introspect.is_empty() {
        ("introspect", "`clients` and `expires`", publishes)
    } else if ours.publish_clients {
        ("publish_clients", "`expires`", clients)
    } else {
        return None;
    };
    let others = [
        ("deny", ours.deny),
        ("users", !ours.users.is_empty()),
        ("resources", !ours.resources.is_empty()),
        ("scopes", !ours.scopes.is_empty()),
        foreign,
    ];
    let (other, _) = others.into_iter().find(|(_, stands)| *stands)?;
    Some(Problem::Beside { key, company, other })
}

fn nested(value: &RawValue) -> Result<Nested, Problem> {
    let mut nested = Nested::default();
    let fields = fields(value.get(), str::to_owned).ok_or_else(|| wrong_type("countersign", "an object"))??;
    for (key, value) in fields {
        match key.as_str() {
            "deny" => nested.deny = boolean(&key, value)?,
            "users" => nested.users = names(&key, value, is_user, GROUP)?,
            "resources" => nested.resources = names(&key, value, Resource::is_pattern, PATTERN)?,
            "clients" => nested.clients = names(&key, value, is_client, CLIENT)?,
            "scopes" => nested.scopes = names(&key, value, is_one_scope, SCOPE)?,
            "publish_clients" => nested.publish_clients = boolean(&key, value)?,
            "introspect" => nested.introspect = names(&key, value, Resource::is_pattern, PATTERN)?,
            "expires" => nested.expires = Some(timestamp(&key, value)?),
            _ => return Err(Problem::UnknownKey(key)),
        }
    }
    match beside(&nested).or_else(|| idle_restriction(&nested)) {
        Some(problem) => Err(problem),
        None => Ok(nested),
    }
}

const GROUP: &str = "which this server cannot know: name groups in `src` of the grant, and \"*\" here";
const PATTERN: &str = "which is no resource: write the whole URI, `https://host/path/*` for what is below, or \"*\"";
const SCOPE: &str = "which is no scope: each scope is an item of its own, and leaving the key out means every scope";
const CLIENT: &str = "which is no client id: leaving the key out means every client";

fn is_client(name: &str) -> bool {
    !name.is_empty() && name != "*"
}

fn is_one_scope(name: &str) -> bool {
    is_scope(name) && name != "*"
}

/// Control tells nobody who is in a group.
fn is_user(name: &str) -> bool {
    !name.starts_with("group:") && !name.starts_with("autogroup:")
}

/// The fields of a JSON object in the order in which they stand; `fold` says which keys count as the same. `None` for
/// anything but an object.
fn fields(text: &str, fold: fn(&str) -> String) -> Option<Result<Vec<(String, &RawValue)>, Problem>> {
    let Fields(fields) = serde_json::from_str(text).ok()?;
    for (index, (key, _)) in fields.iter().enumerate() {
        let folded = fold(key);
        if fields[..index].iter().any(|(earlier, _)| fold(earlier) == folded) {
            return Some(Err(Problem::Twice(key.clone())));
        }
    }
    Some(Ok(fields))
}

/// An object whose repeated keys are kept, as no map does.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

fn extra_claims(claims: Map<String, Value>) -> Result<Map<String, Value>, Problem> {
    match claims.keys().find(|name| claims::is_protected(name)) {
        Some(name) => Err(Problem::ProtectedClaim(name.clone())),
        None => Ok(claims),
    }
}

fn wrong_type(key: &str, expected: &'static str) -> Problem {
    Problem::Type {
        key: key.to_owned(),
        expected,
    }
}

fn boolean(key: &str, value: &RawValue) -> Result<bool, Problem> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(key, "true or false"))
}

fn strings(key: &str, value: &RawValue) -> Result<Vec<String>, Problem> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(key, "an array of strings"))
}

/// A list of names each of which could be somebody's or something's.
fn names(key: &str, value: &RawValue, is_one: fn(&str) -> bool, why: &'static str) -> Result<Vec<String>, Problem> {
    let names = strings(key, value)?;
    match names.iter().find(|name| !is_one(name)) {
        Some(name) => Err(Problem::Nothing {
            key: key.to_owned(),
            name: name.clone(),
            why,
        }),
        None => Ok(names),
    }
}

fn object(key: &str, value: &RawValue) -> Result<Map<String, Value>, Problem> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(key, "an object"))
}

fn timestamp(key: &str, value: &RawValue) -> Result<OffsetDateTime, Problem> {
    serde_json::from_str::<String>(value.get())
        .ok()
        .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
        .ok_or_else(|| wrong_type(key, "a time like 2026-12-31T00:00:00Z"))
}
