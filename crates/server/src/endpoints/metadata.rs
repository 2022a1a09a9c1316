//! The metadata documents and the JWK set: the same bytes for everybody, made once.

use countersign_oauth::{
    caller::Caller,
    metadata::{Features, Metadata},
    register::Mode,
};

use crate::{
    config::ServerConfig,
    keys::Keys,
    reply::{self, Reply},
    status,
};

/// The documents of a running server.
pub(crate) struct Documents {
    oauth: String,
    openid: String,
    jwks: String,
}

impl Documents {
    pub(crate) fn new(config: &ServerConfig, keys: &Keys) -> Result<Self, serde_json::Error> {
        let features = Features {
            registration: config.registration != Mode::Off,
            codes: true,
        };
        let issuer = config.issuer.as_str();
        Ok(Self {
            oauth: serde_json::to_string(&Metadata::oauth(issuer, features))?,
            openid: serde_json::to_string(&Metadata::openid(issuer, features, keys.algorithms()))?,
            jwks: keys.jwks().to_owned(),
        })
    }

    pub(crate) fn oauth(&self, _caller: &Caller) -> Reply {
        document(&self.oauth)
    }

    pub(crate) fn openid(&self, _caller: &Caller) -> Reply {
        document(&self.openid)
    }

    pub(crate) fn jwks(&self, _caller: &Caller) -> Reply {
        document(&self.jwks)
    }
}

fn document(text: &str) -> Reply {
    let reply = reply::body(status::FOUND, "application/json", text.to_owned());
    reply::cached(reply, "public, max-age=300")
}
