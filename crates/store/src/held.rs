//! What a subject holds: sessions, remembered consents, codes and grants.
//!
//! All their ids begin with the owner and the node: one prefix finds what a person has, a longer one what he has on one
//! of his nodes, and neither costs more for what others have. Sessions and consents are stored under such ids;
//! codes and grants, which are found by what their bearer presents, have an entry of [`Held`] beside them as long
//! as they are of use.

use countersign_oauth::{
    caller::Owner,
    footing::Rests as _,
    grant::{Code, Grant},
    remembered::Remembered,
    session::Session,
    subject::Subject,
};
use serde::{Deserialize, Serialize};

use crate::{
    record::Record,
    records::{DueKind, resting},
    resting::Resting,
};

/// What the ids of everything begin with that `owner` holds, on one node or on all of his.
pub fn held_by(owner: &Owner, node_id: Option<&str>) -> Vec<u8> {
    let mut prefix = format!("{owner}\0");
    if let Some(node_id) = node_id {
        prefix.push_str(node_id);
        prefix.push('\0');
    }
    prefix.into_bytes()
}

/// The id of what `subject` holds under `name`.
pub fn held_id(subject: &Subject, name: &str) -> Vec<u8> {
    let mut id = held_by(&subject.owner, Some(&subject.node_id));
    id.extend_from_slice(name.as_bytes());
    id
}

impl Record for Session {
    const TABLE: &'static str = "session";
    const FORMAT: u32 = 1;

    fn id(&self) -> Vec<u8> {
        held_id(&self.subject, &self.hash.to_text())
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting(DueKind::Session, true, &self.footing()))
    }
}

impl Record for Remembered {
    const TABLE: &'static str = "remembered";
    const FORMAT: u32 = 1;

    fn id(&self) -> Vec<u8> {
        held_id(&self.subject, &self.mark())
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting(DueKind::Remembered, true, &self.footing()))
    }
}

/// Index: the codes and grants of one subject. An entry goes when what it names is spent, revoked or over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Who consented.
    pub subject: Subject,
    /// What was given.
    pub what: HeldKind,
    /// The id of its record.
    pub id: String,
}

/// The table of what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldKind {
    /// A [`Code`] that nobody has presented yet.
    Code,
    /// A [`Grant`] that is not revoked.
    Grant,
}

impl Held {
    /// The entry of an authorization code.
    pub fn code(code: &Code) -> Self {
        Self {
            subject: code.authorization.subject.clone(),
            what: HeldKind::Code,
            id: code.id.to_text(),
        }
    }

    /// The entry of a grant.
    pub fn grant(grant: &Grant) -> Self {
        Self {
            subject: grant.authorization.subject.clone(),
            what: HeldKind::Grant,
            id: grant.id.as_str().to_owned(),
        }
    }
}

impl Record for Held {
    const TABLE: &'static str = "held";
    const FORMAT: u32 = 1;

    fn id(&self) -> Vec<u8> {
        let kind = match self.what {
            HeldKind::Code => "c",
            HeldKind::Grant => "g",
        };
        held_id(&self.subject, &format!("{kind}{}", self.id))
    }
}

#[cfg(test)]
mod tests;
