//! The visits of the user to the authorization page: what each was sent with, and which answer belongs to it.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;
use url::form_urlencoded;

use crate::demo::{BoxError, people};

/// Visits that may be open; the oldest is forgotten first.
const MAX_OPEN: usize = 16;
const SCOPE: &str = "openid email";

/// See the module's description.
pub(super) struct Visits {
    issuer: String,
    client_id: String,
    redirect_uri: String,
    open: Mutex<VecDeque<Visit>>,
}

struct Visit {
    state: String,
    verifier: String,
    awaited: Option<oneshot::Sender<String>>,
}

/// A browser's return.
pub(super) struct Back {
    pub(super) code: String,
    pub(super) verifier: String,
    /// Where the code goes when the transcript is waiting for it.
    pub(super) awaited: Option<oneshot::Sender<String>>,
}

impl Visits {
    pub(super) fn new(issuer: &str, client_id: &str, redirect_uri: String) -> Self {
        Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            redirect_uri,
            open: Mutex::default(),
        }
    }

    pub(super) fn client_id(&self) -> &str {
        &self.client_id
    }

    pub(super) fn redirect_uri(&self) -> &str {
        &self.redirect_uri
    }

    /// Notes a visit; gives the authorization page's path and query, and the verifier (RFC 7636).
    pub(super) fn begin(&self, awaited: Option<oneshot::Sender<String>>) -> Result<(String, String), BoxError> {
        let (state, verifier) = (secret()?, secret()?);
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&verifier));
        let query = form_urlencoded::Serializer::new(String::new())
            .append_pair("response_type", "code")
            .append_pair("client_id", &self.client_id)
            .append_pair("redirect_uri", &self.redirect_uri)
            .append_pair("resource", people::ECHO)
            .append_pair("scope", SCOPE)
            .append_pair("state", &state)
            .append_pair("code_challenge", &challenge)
            .append_pair("code_challenge_method", "S256")
            .finish();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() == MAX_OPEN {
            open.pop_front();
        }
        open.push_back(Visit {
            state,
            verifier: verifier.clone(),
            awaited,
        });
        Ok((format!("/authorize?{query}"), verifier))
    }

    /// The code of an answer to one of the visits, which is thereby over; or what is wrong with the answer.
    pub(super) fn back(&self, query: &str) -> Result<Back, String> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let value = |name: &str| {
            pairs
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let known = open
            .iter()
            .position(|visit| Some(visit.state.as_str()) == value("state"));
        let visit = known.and_then(|index| open.remove(index));
        let visit = visit.ok_or("the application asked for no such answer; start again")?;
        // RFC 9207: an answer of another server must not be taken for this one's.
        if value("iss") != Some(self.issuer.as_str()) {
            return Err("the answer is not from the server that was asked".to_owned());
        }
        if let Some(error) = value("error") {
            let why = value("error_description").unwrap_or_default();
            return Err(format!("the server says {error}: {why}"));
        }
        Ok(Back {
            code: value("code").ok_or("the answer holds no code")?.to_owned(),
            verifier: visit.verifier,
            awaited: visit.awaited,
        })
    }
}

fn secret() -> Result<String, BoxError> {
    let mut raw = [0; 32];
    getrandom::fill(&mut raw).map_err(|error| error.to_string())?;
    Ok(URL_SAFE_NO_PAD.encode(raw))
}

#[cfg(test)]
mod tests;
