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
use crate::claims;

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
    /// A restriction of ours inside, while what it should restrict stands outside, where nothing restricts it.
    #[error(
        "`countersign.{0}` restricts nothing, because the `users` and `resources` of this rule stand beside it; move \
         them into \"countersign\": {{…}}"
    )]
    RestrictsNothing(&'static str),
    /// `introspect` together with keys that say something else about other people.
    #[error("`countersign.introspect` goes with `clients` and `expires` only; write `{0}` in a rule of its own")]
    BesideIntrospect(&'static str),
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
    let plain = !rule.users.is_empty() || !rule.resources.is_empty();
    match rule.ours.as_ref().and_then(idle_restriction).filter(|_| plain) {
        Some(key) => Err(Problem::RestrictsNothing(key)),
        None => Ok(rule),
    }
}

/// A restriction that an allowing object carries without anybody whom it would allow something.
fn idle_restriction(ours: &Nested) -> Option<&'static str> {
    if ours.deny || ours.publish_clients || !ours.users.is_empty() || !ours.introspect.is_empty() {
        return None;
    }
    let restrictions = [
        ("expires", ours.expires.is_some()),
        ("clients", !ours.clients.is_empty()),
        ("scopes", !ours.scopes.is_empty()),
        ("resources", !ours.resources.is_empty()),
    ];
    restrictions.iter().find(|(_, stands)| *stands).map(|(key, _)| *key)
}

fn nested(value: &RawValue) -> Result<Nested, Problem> {
    let mut nested = Nested::default();
    let fields = fields(value.get(), str::to_owned).ok_or_else(|| wrong_type("countersign", "an object"))??;
    for (key, value) in fields {
        match key.as_str() {
            "deny" => nested.deny = boolean(&key, value)?,
            "users" => nested.users = strings(&key, value)?,
            "resources" => nested.resources = strings(&key, value)?,
            "clients" => nested.clients = strings(&key, value)?,
            "scopes" => nested.scopes = strings(&key, value)?,
            "publish_clients" => nested.publish_clients = boolean(&key, value)?,
            "introspect" => nested.introspect = strings(&key, value)?,
            "expires" => nested.expires = Some(timestamp(&key, value)?),
            _ => return Err(Problem::UnknownKey(key)),
        }
    }
    if !nested.introspect.is_empty() {
        let others = [
            ("deny", nested.deny),
            ("users", !nested.users.is_empty()),
            ("resources", !nested.resources.is_empty()),
            ("scopes", !nested.scopes.is_empty()),
            ("publish_clients", nested.publish_clients),
        ];
        if let Some((key, _)) = others.iter().find(|(_, stands)| *stands) {
            return Err(Problem::BesideIntrospect(key));
        }
    }
    Ok(nested)
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

fn object(key: &str, value: &RawValue) -> Result<Map<String, Value>, Problem> {
    serde_json::from_str(value.get()).map_err(|_| wrong_type(key, "an object"))
}

fn timestamp(key: &str, value: &RawValue) -> Result<OffsetDateTime, Problem> {
    serde_json::from_str::<String>(value.get())
        .ok()
        .and_then(|text| OffsetDateTime::parse(&text, &Rfc3339).ok())
        .ok_or_else(|| wrong_type(key, "a time like 2026-12-31T00:00:00Z"))
}
