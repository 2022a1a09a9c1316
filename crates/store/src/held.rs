//! What a subject holds in his browsers: sessions and remembered consents.
//!
//! Their ids begin with the owner and the node: one prefix finds what a person has, a longer one what he has on one
//! of his nodes, and neither costs more for what others have. Codes and grants are found by what their bearer presents,
//! and by the node at which they were given (see [`resting`](crate::Store::resting_on)).

use countersign_oauth::{
    caller::Owner, footing::Rests as _, remembered::Remembered, session::Session, subject::Subject,
};

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
    const FORMAT: u16 = 1;
    const COPY: Option<fn(&Self) -> Self> = Some(Self::clone);

    fn id(&self) -> Vec<u8> {
        held_id(&self.subject, &self.hash.to_text())
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting(DueKind::Session, true, &self.footing()))
    }
}

impl Record for Remembered {
    const TABLE: &'static str = "remembered";
    const FORMAT: u16 = 1;
    const COPY: Option<fn(&Self) -> Self> = Some(Self::clone);

    fn id(&self) -> Vec<u8> {
        held_id(&self.subject, &self.mark())
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting(DueKind::Remembered, true, &self.footing()))
    }
}

#[cfg(test)]
mod tests;
