//! The metadata documents and the JWK set: the same bytes for everybody, made once or with the keys.

use countersign_oauth::{
    caller::Caller,
    metadata::{Features, Metadata},
    register::Mode,
};

use crate::{
    app::App,
    config::ServerConfig,
    reply::{self, Reply},
    status,
};

/// The documents of a running server.
pub(crate) struct Documents {
    oauth: String,
    openid: String,
}

impl Documents {
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, serde_json::Error> {
        let features = Features {
            registration: config.registration != Mode::Off,
            codes: true,
        };
        let issuer = config.issuer.as_str();
        Ok(Self {
            oauth: serde_json::to_string(&Metadata::oauth(issuer, features))?,
            openid: serde_json::to_string(&Metadata::openid(issuer, features))?,
        })
    }

    pub(crate) fn oauth(&self, _caller: &Caller) -> Reply {
        document(&self.oauth)
    }

    pub(crate) fn openid(&self, _caller: &Caller) -> Reply {
        document(&self.openid)
    }
}

/// `GET /.well-known/jwks.json`: the keys that sign, those that will, and those that did lately.
pub(crate) fn jwks(app: &App, _caller: &Caller) -> Reply {
    let reply = reply::body(status::FOUND, "application/json", app.keys.jwks());
    // A set that lacks a key which is about to sign must not be kept. The age is `rotation::JWKS_MAX_AGE`.
    let age = if app.keys.is_complete() {
        "public, max-age=300"
    } else {
        "no-cache"
    };
    reply::cached(reply, age)
}

fn document(text: &str) -> Reply {
    let reply = reply::body(status::FOUND, "application/json", text.to_owned());
    reply::cached(reply, "public, max-age=300")
}
