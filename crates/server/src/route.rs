//! The route table: which paths there are, what they answer to, and to whom.

use countersign_oauth::metadata::path;
use http::Method;

/// One path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    OauthMetadata,
    OpenidMetadata,
    Jwks,
    Register,
    Manage,
    Authorize,
    Consent,
    Par,
    Token,
    Introspect,
    Revoke,
    Userinfo,
    Logout,
    LogoutAnswer,
    Me,
    CaPem,
    CaPage,
    Explain,
    Landing,
    Style,
    FormPostScript,
}

/// For whom a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// People: under the short name they are sent to the issuer's.
    Page,
    /// Programs, which must not be led to believe that the short name is the issuer.
    Protocol,
}

/// Whose pages may read the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cors {
    /// Only our own.
    SameOrigin,
    /// Any page, without credentials.
    Anyone,
    /// Loopback pages and those of `cors_origins`.
    Registration,
}

impl Route {
    pub(crate) const ALL: [Self; 21] = [
        Self::OauthMetadata,
        Self::OpenidMetadata,
        Self::Jwks,
        Self::Register,
        Self::Manage,
        Self::Authorize,
        Self::Consent,
        Self::Par,
        Self::Token,
        Self::Introspect,
        Self::Revoke,
        Self::Userinfo,
        Self::Logout,
        Self::LogoutAnswer,
        Self::Me,
        Self::CaPem,
        Self::CaPage,
        Self::Explain,
        Self::Landing,
        Self::Style,
        Self::FormPostScript,
    ];

    pub(crate) fn find(asked: &str) -> Option<Self> {
        let whole = Self::ALL.into_iter().find(|route| route.path() == asked);
        let client = || {
            asked
                .strip_prefix(path::CLIENTS)
                .is_some_and(|id| !id.contains('/'))
                .then_some(Self::Manage)
        };
        whole.or_else(client)
    }

    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::OauthMetadata => path::OAUTH_METADATA,
            Self::OpenidMetadata => path::OPENID_METADATA,
            Self::Jwks => path::JWKS,
            Self::Register => path::REGISTER,
            Self::Manage => path::CLIENTS,
            Self::Authorize => path::AUTHORIZE,
            Self::Consent => path::CONSENT,
            Self::Par => path::PAR,
            Self::Token => path::TOKEN,
            Self::Introspect => path::INTROSPECT,
            Self::Revoke => path::REVOKE,
            Self::Userinfo => path::USERINFO,
            Self::Logout => path::LOGOUT,
            Self::LogoutAnswer => path::LOGOUT_ANSWER,
            Self::Me => path::ME,
            Self::CaPem => "/ca.pem",
            Self::CaPage => "/ca",
            Self::Explain => "/policy/explain",
            Self::Landing => "/",
            Self::Style => "/style.css",
            Self::FormPostScript => "/form-post.js",
        }
    }

    /// The methods it answers, as `Allow` lists them; `OPTIONS` belongs to those that other pages may read.
    pub(crate) const fn allowed(self) -> &'static str {
        match self {
            Self::OauthMetadata | Self::OpenidMetadata | Self::Jwks => "GET, HEAD, OPTIONS",
            Self::Register | Self::Par | Self::Token | Self::Revoke => "POST, OPTIONS",
            Self::Userinfo => "GET, POST, OPTIONS",
            Self::Manage => "GET, PUT, DELETE, OPTIONS",
            Self::Authorize | Self::Logout | Self::Me => "GET, POST",
            Self::Consent | Self::Introspect | Self::LogoutAnswer => "POST",
            Self::CaPem | Self::CaPage | Self::Explain | Self::Landing | Self::Style | Self::FormPostScript => {
                "GET, HEAD"
            }
        }
    }

    pub(crate) fn allows(self, method: &Method) -> bool {
        self.allowed().split(", ").any(|allowed| allowed == method.as_str())
    }

    pub(crate) const fn kind(self) -> Kind {
        match self {
            Self::CaPem
            | Self::CaPage
            | Self::Explain
            | Self::Me
            | Self::Landing
            | Self::Style
            | Self::FormPostScript => Kind::Page,
            _ => Kind::Protocol,
        }
    }

    /// Whether a browser shows what it answers, so that its errors are pages.
    pub(crate) const fn is_shown(self) -> bool {
        matches!(
            self,
            Self::Authorize
                | Self::Consent
                | Self::Logout
                | Self::LogoutAnswer
                | Self::Me
                | Self::Explain
                | Self::Landing
                | Self::CaPage
        )
    }

    pub(crate) const fn cors(self) -> Cors {
        match self {
            Self::OauthMetadata
            | Self::OpenidMetadata
            | Self::Jwks
            | Self::Par
            | Self::Token
            | Self::Revoke
            | Self::Userinfo => Cors::Anyone,
            Self::Register | Self::Manage => Cors::Registration,
            _ => Cors::SameOrigin,
        }
    }
}
