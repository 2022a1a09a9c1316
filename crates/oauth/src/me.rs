//! `/me`: what a person can take back there.
//!
//! What is taken back is named within what its owner holds, or says itself whose it is: the owner is always the Caller's,
//! so no name can reach what is somebody else's.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::{
    client::ClientId,
    error::{ErrorCode, OAuthError},
    params::Params,
};

/// What is to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// A session.
    Session(Name),
    /// A remembered consent, and the grants of its client on its node.
    Consent(Name),
    /// A grant.
    Grant(Name),
    /// A client of his own.
    Client(ClientId),
    /// Every session, consent, code and grant, on all nodes. Clients stay.
    Everything,
}

/// What a record is called among those of its owner: the rest of its id behind the owner, or the whole id of a grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name(Vec<u8>);

impl Name {
    /// The name of the record with this `id`, whose owner's ids begin with `prefix`.
    pub fn of(id: &[u8], prefix: &[u8]) -> Option<Self> {
        id.strip_prefix(prefix).map(|rest| Self(rest.to_vec()))
    }

    /// Reads a name from a form or address.
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok().map(Self)
    }

    /// The name as it stands in a form or address.
    pub fn to_text(&self) -> String {
        URL_SAFE_NO_PAD.encode(&self.0)
    }

    /// The id of the record with this name, among those that begin with `prefix`.
    pub fn id(&self, prefix: &[u8]) -> Vec<u8> {
        [prefix, &self.0].concat()
    }
}

impl Action {
    /// Reads the answer to the form: `end` says what kind of thing, `name` which.
    ///
    /// # Errors
    /// `invalid_request` that names the parameter.
    pub fn read(params: &Params) -> Result<Self, OAuthError> {
        let invalid = |why| OAuthError::new(ErrorCode::InvalidRequest, why);
        let name =
            || Name::parse(params.required("name")?).ok_or_else(|| invalid("name is not one that this page gave"));
        match params.required("end")? {
            "session" => Ok(Self::Session(name()?)),
            "consent" => Ok(Self::Consent(name()?)),
            "grant" => Ok(Self::Grant(name()?)),
            "client" => Ok(Self::Client(ClientId::from_request(params.required("name")?))),
            "everything" => Ok(Self::Everything),
            _ => Err(invalid("end must be session, consent, grant, client or everything")),
        }
    }
}

#[cfg(test)]
mod tests;
