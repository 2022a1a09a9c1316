//! What is remembered between consent and the last token: the authorization code, and the grant it turns into.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rand_core::RngCore;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use time::{Duration, OffsetDateTime};

use crate::{
    authorize::Request,
    caller::{Caller, Owner},
    client::{Client, ClientId},
    error::{ErrorCode, OAuthError},
    footing::Publisher,
    pkce::Challenge,
    publish,
    resource::Resource,
    secret::{Secret, SecretHash},
    subject::Subject,
    ticket::Ticket,
};

/// How long a code may be redeemed.
pub const CODE_LIFETIME: Duration = Duration::seconds(60);
/// How long a code is remembered that was not redeemed: longer than anybody may look at the page that it answers.
pub const CODE_MEMORY: Duration = Duration::minutes(15);
/// How long a grant is remembered at least: it shows that the question was answered from which it came.
pub const GRANT_MEMORY: Duration = Duration::minutes(15);
/// How many grants of one owner are kept at a time, some 300 MiB: no more are made until some are forgotten.
pub const MAX_PER_OWNER: u64 = 100_000;

/// What a user consented to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorization {
    /// For which client.
    pub client: ClientId,
    /// Who consented.
    pub subject: Subject,
    /// The scopes, already reduced to what policy allows.
    pub scopes: Vec<String>,
    /// The servers the tokens are for; none means this server's userinfo only.
    pub resources: Vec<Resource>,
    /// When the user clicked.
    #[serde(with = "time::serde::timestamp")]
    pub auth_time: OffsetDateTime,
    /// By whose rule the subject may use the client; `None` when it is the subject's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_by: Option<Publisher>,
    /// Under which publication of an administrator the subject may use it, if by such a one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publication: Option<u64>,
}

/// The name of a code, and of the [ticket](crate::ticket) that it answers: the tag of the subject's node and 128 random
/// bits. The text of the code begins with it; alone it is good for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CodeId {
    tag: NodeTag,
    name: [u8; 16],
}

impl CodeId {
    /// Draws the name of a code for the node with this stable id.
    pub fn draw(node_id: &str, rng: &mut dyn RngCore) -> Self {
        let mut name = [0; 16];
        rng.fill_bytes(&mut name);
        let tag = NodeTag::of(node_id);
        Self { tag, name }
    }

    /// What stands before the secret in the text of a code; `None` where no name does.
    pub(crate) fn of_code(text: &str) -> Option<Self> {
        let (name, _) = text.split_at_checked(text.len().checked_sub(Secret::LEN)?)?;
        Self::parse(name)
    }

    fn parse(text: &str) -> Option<Self> {
        let (tag, name) = text.split_at_checked(NodeTag::TEXT)?;
        let tag = URL_SAFE_NO_PAD.decode(tag).ok()?.try_into().ok()?;
        let name = URL_SAFE_NO_PAD.decode(name).ok()?.try_into().ok()?;
        Some(Self {
            tag: NodeTag(tag),
            name,
        })
    }

    /// The tag of the subject's node.
    pub const fn tag(&self) -> NodeTag {
        self.tag
    }

    /// The name as text.
    pub fn to_text(&self) -> String {
        self.tag.to_text() + &URL_SAFE_NO_PAD.encode(self.name)
    }
}

impl From<CodeId> for String {
    fn from(id: CodeId) -> Self {
        id.to_text()
    }
}

impl TryFrom<String> for CodeId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the name of a code")
    }
}

/// An authorization code. It is deleted when it is redeemed; the grant that came of it tells that it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Code {
    /// Its name, under which it is stored.
    pub id: CodeId,
    /// Hash of its text.
    pub hash: SecretHash,
    /// What it stands for.
    pub authorization: Authorization,
    /// `nonce`, for the id_token that it is redeemed for. Not part of what a grant keeps: it belongs to this one answer, and
    /// the id_token of a refresh has none (OpenID Connect Core 12.2).
    pub nonce: Option<String>,
    /// Where it was sent.
    pub redirect_uri: String,
    /// Who may redeem it: whoever knows the verifier.
    pub challenge: Challenge,
    /// When it can no longer be redeemed.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
    /// Whether it is good for nothing any more: presented in vain by the right client, taken back, or never given out.
    pub spent: bool,
}

impl Code {
    /// The code that answers `request` of `caller` with `scopes`, resting on a click at `auth_time`; its text goes to the
    /// client.
    pub fn issue(
        id: CodeId,
        request: &Request,
        caller: &Caller,
        scopes: Vec<String>,
        auth_time: OffsetDateTime,
        now: OffsetDateTime,
        rng: &mut dyn RngCore,
    ) -> (Self, Secret) {
        let secret = Secret::draw_after(&id.to_text(), rng);
        let code = Self {
            id,
            hash: secret.hash(),
            authorization: Authorization {
                client: request.client.clone(),
                subject: Subject::of(caller),
                scopes,
                resources: request.resources.clone(),
                auth_time,
                published_by: request.published_by.clone(),
                publication: request.publication,
            },
            nonce: request.nonce.clone(),
            redirect_uri: request.redirect_uri.clone(),
            challenge: request.challenge.clone(),
            expires_at: now + CODE_LIFETIME,
            spent: false,
        };
        (code, secret)
    }

    /// What stands for a code after the answer "no" to `ticket`: nobody has its text, but the ticket is answered.
    pub fn declined(ticket: &Ticket, caller: &Caller, now: OffsetDateTime, rng: &mut dyn RngCore) -> Self {
        let (code, _) = Self::issue(ticket.code, &ticket.request, caller, Vec::new(), now, now, rng);
        Self { spent: true, ..code }
    }

    /// When the record is of no use any more, unless the code is redeemed before.
    pub fn forgotten_at(&self) -> OffsetDateTime {
        self.expires_at + CODE_MEMORY
    }
}

/// What the names of all codes and grants of one node begin with: 48 bits of a hash of its stable id, so that a search by a prefix
/// finds them. Two nodes may share one; the grant itself says which node is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeTag([u8; Self::LEN]);

impl NodeTag {
    /// Bytes.
    pub(crate) const LEN: usize = 6;
    /// Characters as text.
    const TEXT: usize = 8;

    /// The tag of the node with this stable id.
    pub fn of(node_id: &str) -> Self {
        let hash: [u8; 32] = Sha256::new_with_prefix(b"countersign node of a grant\0")
            .chain_update(node_id)
            .finalize()
            .into();
        let mut tag = [0; Self::LEN];
        tag.copy_from_slice(&hash[..Self::LEN]);
        Self(tag)
    }

    /// The tag as names carry it.
    pub fn to_text(self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    /// The tag as refresh tokens carry it.
    pub(crate) const fn bytes(self) -> [u8; Self::LEN] {
        self.0
    }

    /// The tag that a refresh token carried.
    pub(crate) const fn from_bytes(tag: [u8; Self::LEN]) -> Self {
        Self(tag)
    }
}

/// The public name of a grant: the tag of the subject's node, then a hash of the grant's handle. Access tokens carry it;
/// it does not reveal the handle, which refresh tokens carry.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GrantId(String);

impl GrantId {
    /// The name of the grant with this handle, given at the node with this tag.
    pub fn of(tag: NodeTag, handle: &[u8; 16]) -> Self {
        Self(tag.to_text() + &URL_SAFE_NO_PAD.encode(&Sha256::digest(handle)[..16]))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The tag with which it begins.
    pub fn tag(&self) -> &str {
        self.0.get(..NodeTag::TEXT).unwrap_or(&self.0)
    }
}

/// What a code turned into: the root of a family of refresh tokens, and what access tokens rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its name.
    pub id: GrantId,
    /// Hash of the code that was redeemed: presenting that again ends the grant.
    pub code: SecretHash,
    /// What was consented to.
    pub authorization: Authorization,
    /// Stable id of the node that redeemed the code: the only one whose refresh tokens are accepted.
    pub node_id: String,
    /// When the code was redeemed.
    #[serde(default = "long_ago", with = "time::serde::timestamp")]
    pub issued_at: OffsetDateTime,
    /// When it ends whatever happens.
    #[serde(with = "time::serde::timestamp")]
    pub expires_at: OffsetDateTime,
    /// Whether it was ended before.
    pub revoked: bool,
    /// Its refresh tokens, if the client asked for such at registration.
    pub refresh: Option<Rotation>,
}

/// For grants of an earlier version, which did not say.
const fn long_ago() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH
}

impl Grant {
    /// Whether tokens that rest on it are good at `now`, as far as the record knows.
    pub fn is_live(&self, now: OffsetDateTime) -> bool {
        !self.revoked && now < self.expires_at
    }

    /// Whether `client`, as it is registered now, still has what was granted to it ([`publish::carries`]). A grant ends with
    /// the registration of its client without a write.
    pub fn is_carried_by(&self, client: &Client) -> bool {
        let Authorization {
            client: granted_to,
            subject,
            published_by,
            publication,
            ..
        } = &self.authorization;
        *granted_to == client.id && publish::carries(client, &subject.owner, published_by.as_ref(), *publication)
    }

    /// When the record is of no use any more: nothing rests on it, and no page can be answered again from which it came.
    pub fn forgotten_at(&self) -> OffsetDateTime {
        let answered = self.issued_at + GRANT_MEMORY;
        if self.revoked {
            answered
        } else {
            self.expires_at.max(answered)
        }
    }

    /// The counter of the grants of `owner`.
    pub fn counter(owner: &Owner) -> String {
        format!("granted/{owner}")
    }

    /// Why one who has [`MAX_PER_OWNER`] gets no more.
    pub fn too_many() -> OAuthError {
        OAuthError::new(
            ErrorCode::TemporarilyUnavailable,
            format!(
                "the user has {MAX_PER_OWNER} grants, as many as are kept; they are forgotten when their time is over, or a \
                 quarter of an hour after they were taken back on /me"
            ),
        )
    }
}

/// Where the rotation of a grant's refresh tokens stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    /// Hash of the refresh token that is good now.
    pub current: SecretHash,
    /// Those before it, oldest first, as long as they still give their successor.
    pub spent: Vec<Spent>,
}

/// A refresh token that was rotated away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Its hash.
    pub hash: SecretHash,
    /// When it was presented first.
    #[serde(with = "time::serde::timestamp")]
    pub at: OffsetDateTime,
    /// Its successor, readable only with it.
    pub successor: Sealed,
}

/// The secret of a refresh token, covered by a pad that only the holder of its predecessor can make.
///
/// The pad is a hash of a 256-bit secret that is used once, so covering is encryption; that the result is genuine
/// shows when its hash is compared with the stored one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sealed(String);

impl Sealed {
    /// Covers `successor` so that it can be read with `predecessor`.
    pub fn seal(successor: &[u8; 32], predecessor: &[u8; 32]) -> Self {
        Self(URL_SAFE_NO_PAD.encode(covered(successor, predecessor)))
    }

    /// The successor, if `predecessor` is the right one; garbage or nothing otherwise.
    pub fn open(&self, predecessor: &[u8; 32]) -> Option<[u8; 32]> {
        let sealed: [u8; 32] = URL_SAFE_NO_PAD.decode(&self.0).ok()?.try_into().ok()?;
        Some(covered(&sealed, predecessor))
    }
}

fn covered(text: &[u8; 32], secret: &[u8; 32]) -> [u8; 32] {
    let pad = Sha256::new_with_prefix(b"countersign refresh successor\0")
        .chain_update(secret)
        .finalize();
    let mut out = [0; 32];
    for (out, (text, pad)) in out.iter_mut().zip(text.iter().zip(pad)) {
        *out = text ^ pad;
    }
    out
}

#[cfg(test)]
mod tests;
