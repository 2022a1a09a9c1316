//! Redirect URIs: which ones a client may register, and when a requested one is a registered one.
//!
//! Text comes in and a [`RedirectUri`] goes out, which keeps the text as it was: matching is by exact string (RFC 9700
//! 2.1), except that a loopback URI matches on any port (RFC 8252 7.3). Real clients need that for the name
//! `localhost` too, and for clients that registered without a port.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use url::{Host, Url};

/// Where a redirect URI leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `https` to some host.
    Web,
    /// `http` to 127.0.0.1, `[::1]` or localhost: an app on this computer, on any port.
    Loopback,
    /// A scheme of an app's own (RFC 8252 7.1), for public clients only.
    PrivateUse,
}

/// A redirect URI that may be registered, as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedirectUri {
    text: String,
    kind: Kind,
}

/// Why a text may not be a redirect URI. The sentences complete "… is refused: ".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Longer than [`RedirectUri::MAX_LEN`].
    #[error("it is longer than 2048 characters")]
    TooLong,
    /// Spaces, control characters, non-ASCII, or characters that browsers rewrite.
    #[error("it has a character that must be percent-encoded")]
    Character,
    /// RFC 6749 3.1.2.
    #[error("a redirect URI has no fragment (#)")]
    Fragment,
    /// No pattern is ever expanded.
    #[error("wildcards (*) are not supported, every URI is registered in full")]
    Wildcard,
    /// `user@` before the host.
    #[error("it has user information before the host")]
    UserInfo,
    /// Not an absolute URI, or a host that is not one.
    #[error("it is not an absolute URI with a valid host")]
    Malformed,
    /// `http` to another host than this computer.
    #[error("plain http is for 127.0.0.1, [::1] and localhost only; use https")]
    InsecureHttp,
    /// A scheme that browsers or systems act on themselves.
    #[error("the scheme {0} cannot be used")]
    Scheme(String),
}

impl RedirectUri {
    /// The longest URI that is accepted, in bytes.
    pub const MAX_LEN: usize = 2048;

    /// Accepts `text` or says why it may not be registered.
    ///
    /// # Errors
    /// See [`RedirectError`]; every rule of RFC 9700 2.1, RFC 8252 7 and of this project is one variant.
    pub fn parse(text: &str) -> Result<Self, RedirectError> {
        if text.len() > Self::MAX_LEN {
            return Err(RedirectError::TooLong);
        }
        if text.contains('#') {
            return Err(RedirectError::Fragment);
        }
        if text.contains('*') {
            return Err(RedirectError::Wildcard);
        }
        if !text.bytes().all(is_uri_byte) {
            return Err(RedirectError::Character);
        }
        let kind = classify(text)?;
        Ok(Self {
            text: text.to_owned(),
            kind,
        })
    }

    /// The URI as it was registered.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Where it leads.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a program on the user's own computer waits there, also behind https.
    pub fn is_on_this_computer(&self) -> bool {
        self.kind != Kind::Web
            || match Url::parse(&self.text).ok().as_ref().and_then(Url::host) {
                Some(Host::Domain(name)) => {
                    let name = name.trim_end_matches('.');
                    name == "localhost" || name.ends_with(".localhost")
                }
                Some(Host::Ipv4(address)) => address.is_loopback() || address.is_unspecified(),
                Some(Host::Ipv6(address)) => {
                    let address = address.to_canonical();
                    address.is_loopback() || address.is_unspecified()
                }
                None => false,
            }
    }

    /// Whether `requested` is this URI: the same text, or for a loopback URI the same text but for the port.
    pub fn matches(&self, requested: &str) -> bool {
        if self.text == requested {
            return true;
        }
        self.kind == Kind::Loopback
            && matches!((split_port(&self.text), split_port(requested)),
                (Some(ours), Some(theirs)) if ours == theirs)
    }
}

impl Serialize for RedirectUri {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for RedirectUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

/// What may stand in a URI (RFC 3986 2) without being rewritten by a browser on the way.
fn is_uri_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()+,;=%".contains(&byte)
}

fn classify(text: &str) -> Result<Kind, RedirectError> {
    let (scheme, rest) = text.split_once(':').ok_or(RedirectError::Malformed)?;
    let scheme = scheme.to_ascii_lowercase();
    let mut letters = scheme.bytes();
    if !letters.next().is_some_and(|b| b.is_ascii_lowercase())
        || !letters.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
    {
        return Err(RedirectError::Malformed);
    }
    let authority = rest
        .strip_prefix("//")
        .map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    if authority.is_some_and(|authority| authority.contains('@')) {
        return Err(RedirectError::UserInfo);
    }
    match scheme.as_str() {
        "https" | "http" => classify_web(text, &scheme, authority.ok_or(RedirectError::Malformed)?),
        _ if is_denied_scheme(&scheme) => Err(RedirectError::Scheme(scheme)),
        _ if rest.trim_start_matches('/').is_empty() => Err(RedirectError::Malformed),
        _ => Ok(Kind::PrivateUse),
    }
}

fn classify_web(text: &str, scheme: &str, authority: &str) -> Result<Kind, RedirectError> {
    let (host, port) = split_authority(authority).ok_or(RedirectError::Malformed)?;
    if port.is_some_and(|port| !is_port(port)) {
        return Err(RedirectError::Malformed);
    }
    // What a browser would make of the text must be the host that was written: 0x7f.1 is not.
    let parsed = Url::parse(text).map_err(|_| RedirectError::Malformed)?;
    if host.is_empty()
        || !parsed
            .host_str()
            .is_some_and(|parsed| parsed.eq_ignore_ascii_case(host))
    {
        return Err(RedirectError::Malformed);
    }
    match (scheme, is_loopback(host)) {
        ("https", _) => Ok(Kind::Web),
        (_, true) => Ok(Kind::Loopback),
        (_, false) => Err(RedirectError::InsecureHttp),
    }
}

fn is_loopback(host: &str) -> bool {
    host == "127.0.0.1" || host == "[::1]" || host.eq_ignore_ascii_case("localhost")
}

/// Schemes that a browser or an operating system acts on itself, or that lead nowhere.
fn is_denied_scheme(scheme: &str) -> bool {
    const DENIED: [&str; 17] = [
        "javascript",
        "data",
        "file",
        "blob",
        "vbscript",
        "about",
        "ftp",
        "ftps",
        "mailto",
        "view-source",
        "intent",
        "filesystem",
        "jar",
        "urn",
        "tel",
        "sms",
        "res",
    ];
    DENIED.contains(&scheme) || scheme.starts_with("chrome") || scheme.starts_with("ws")
}

/// `host:port` apart, brackets of an IPv6 address kept.
fn split_authority(authority: &str) -> Option<(&str, Option<&str>)> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (host, rest) = authority.split_at_checked(end)?;
    match rest {
        "" => Some((host, None)),
        _ => Some((host, Some(rest.strip_prefix(':')?))),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// An `http` loopback URI as (host, path and query): everything but its port.
fn split_port(text: &str) -> Option<(&str, &str)> {
    let rest = text.strip_prefix("http://")?;
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = split_authority(authority)?;
    (is_loopback(host) && port.is_none_or(is_port) && tail.bytes().all(is_uri_byte)).then_some((host, tail))
}

#[cfg(test)]
mod tests;
