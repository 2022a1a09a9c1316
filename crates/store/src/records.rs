//! How the values of `countersign-oauth` stand in tables, and the indexes beside them.
//!
//! An index is a table of small records whose ids begin with what is looked up: a prefix scan finds them, and the
//! work does not grow with what else is stored.

use countersign_oauth::{
    assertion::Spent,
    caller::Owner,
    client::{Client, ClientId},
    footing::{Footing, Rests as _},
    form::SpentForm,
    grant::{Code, Grant},
    opaque::OpaqueToken,
    par::Pushed,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{record::Record, resting::Resting};

impl Record for Client {
    const TABLE: &'static str = "client";
    const FORMAT: u16 = 1;
    const COPY: Option<fn(&Self) -> Self> = Some(Self::clone);

    fn id(&self) -> Vec<u8> {
        self.id.as_str().into()
    }
}

/// Index: the clients of one owner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByOwner {
    /// To whom the client belongs.
    pub owner: Owner,
    /// The client.
    pub client: ClientId,
}

impl ByOwner {
    /// What the ids of an owner's entries begin with.
    pub fn prefix(owner: &Owner) -> Vec<u8> {
        format!("{owner}\0").into_bytes()
    }
}

impl Record for ByOwner {
    const TABLE: &'static str = "client-by-owner";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        let mut id = Self::prefix(&self.owner);
        id.extend_from_slice(self.client.as_str().as_bytes());
        id
    }
}

/// The name of the counter of an owner's clients.
pub fn clients_of(owner: &Owner) -> String {
    format!("clients/{owner}")
}

/// Index: clients that are forgotten unless they are used first, in the order of their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnusedUntil {
    /// When the client expires.
    #[serde(with = "time::serde::timestamp")]
    pub at: OffsetDateTime,
    /// The client.
    pub client: ClientId,
}

impl Record for UnusedUntil {
    const TABLE: &'static str = "client-unused";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        let mut id = by_time(self.at);
        id.extend_from_slice(self.client.as_str().as_bytes());
        id
    }
}

impl Record for SpentForm {
    const TABLE: &'static str = "form";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.hash.to_text().into_bytes()
    }
}

impl Record for Code {
    const TABLE: &'static str = "code";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.id.to_text().into()
    }

    /// A spent one is kept only so that presenting it again, or its ticket, shows.
    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting_elsewhere(DueKind::Code, !self.spent, &self.footing()))
    }
}

impl Record for Grant {
    const TABLE: &'static str = "grant";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.id.as_str().into()
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(resting_elsewhere(DueKind::Grant, !self.revoked, &self.footing()))
    }
}

/// What a record rests on besides the subject's node, whose tag its id begins with.
fn resting_elsewhere<'a>(kind: DueKind, live: bool, footing: &Footing<'a>) -> Resting<'a> {
    let mut resting = resting(kind, live, footing);
    resting.on.retain(|node| *node != footing.node_id);
    resting
}

/// What a record rests on, for the index.
pub(crate) fn resting<'a>(kind: DueKind, live: bool, footing: &Footing<'a>) -> Resting<'a> {
    let on = footing.nodes().collect();
    Resting { kind, live, on }
}

impl Record for Spent {
    const TABLE: &'static str = "assertion";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        format!("{}\0{}", self.client, self.jti.to_text()).into_bytes()
    }
}

impl Record for Pushed {
    const TABLE: &'static str = "pushed";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.hash.to_text().into_bytes()
    }
}

impl Record for OpaqueToken {
    const TABLE: &'static str = "opaque";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.hash.to_text().into_bytes()
    }

    fn resting(&self) -> Option<Resting<'_>> {
        self.machine.as_ref()?;
        Some(resting(DueKind::Opaque, true, &self.footing()))
    }
}

/// Index: records that end at some time, in the order of their time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Due {
    /// When it ends.
    #[serde(with = "time::serde::timestamp")]
    pub at: OffsetDateTime,
    /// What ends.
    pub what: DueKind,
    /// The id of the record, which is text in each of these tables.
    pub id: String,
}

/// The table of a record that ends. The numbers stand in stored ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DueKind {
    /// A [`Code`], spent or not. The sweep finds it without a [`Due`].
    Code = 1,
    /// A [`Grant`]. The sweep finds it without a [`Due`].
    Grant = 2,
    /// A session.
    Session = 3,
    /// A remembered consent.
    Remembered = 4,
    /// A [`SpentForm`].
    Form = 5,
    /// A client's assertion that was used.
    Assertion = 6,
    /// An [`OpaqueToken`].
    Opaque = 7,
    /// A [`Pushed`] request.
    Pushed = 8,
}

impl DueKind {
    /// Those that the index of what rests on what has.
    const ALL: [Self; 5] = [Self::Code, Self::Grant, Self::Session, Self::Remembered, Self::Opaque];

    /// The kind that stands as `kind as u8` in the id of an index entry.
    pub(crate) fn from_letter(letter: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == letter)
    }
}

impl Record for Due {
    const TABLE: &'static str = "due";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        let mut id = by_time(self.at);
        id.push(self.what as u8);
        id.extend_from_slice(self.id.as_bytes());
        id
    }
}

/// Ids that sort by time: big-endian seconds. Times before 1970 do not occur.
fn by_time(at: OffsetDateTime) -> Vec<u8> {
    u64::try_from(at.unix_timestamp()).unwrap_or(0).to_be_bytes().to_vec()
}
