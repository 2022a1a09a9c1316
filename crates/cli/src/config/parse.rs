//! What one written value means: pure functions from text to a value, or to a sentence that says what would be right.

use std::{path::PathBuf, time::Duration};

use countersign_server::Issuer;
use url::{Host, Url};

use super::Registration;

/// The outcome of reading one value.
pub(crate) type Parsed<T> = Result<T, String>;

/// A path, absolute or relative to the working directory.
pub(crate) fn path(text: &str) -> Parsed<PathBuf> {
    match text {
        "" => Err("is empty: give a path, or leave it out".to_owned()),
        text => Ok(PathBuf::from(text)),
    }
}

/// A TCP port.
pub(crate) fn port(text: &str) -> Parsed<u16> {
    if text.starts_with("tcp://") {
        // Kubernetes sets COUNTERSIGN_PORT beside a service named countersign.
        return Err(format!(
            "`{text}` is a Kubernetes service link: set enableServiceLinks: false in the pod"
        ));
    }
    text.parse()
        .ok()
        .filter(|port| *port != 0)
        .ok_or_else(|| format!("`{text}` is no port: give 1 to 65535"))
}

/// A local UDP port; 0 stands for any.
pub(crate) fn udp_port(text: &str) -> Parsed<Option<u16>> {
    let port: u16 = text
        .parse()
        .map_err(|_| format!("`{text}` is no port: give 1 to 65535, or 0 for any"))?;
    Ok((port != 0).then_some(port))
}

/// A count without a unit.
pub(crate) fn count(text: &str) -> Parsed<u32> {
    text.parse()
        .map_err(|_| format!("`{text}` is no whole number from 0 to {}", u32::MAX))
}

/// `true` or `false`.
pub(crate) fn boolean(text: &str) -> Parsed<bool> {
    text.parse().map_err(|_| format!("`{text}` is neither true nor false"))
}

/// A span of time such as `24h`, `1h30m` or `500ms`; more than zero.
pub(crate) fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || format!("`{text}` is no span of time: write it like 24h, 90s or 1h30m");
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?);
        let (unit, tail) = tail.split_at(tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len()));
        let milliseconds: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        let part = number
            .parse::<u64>()
            .ok()
            .and_then(|number| number.checked_mul(milliseconds))
            .ok_or_else(wrong)?;
        total = total.checked_add(Duration::from_millis(part)).ok_or_else(wrong)?;
        rest = tail;
    }
    (total > Duration::ZERO).then_some(total).ok_or_else(wrong)
}

/// An amount of memory such as `64MiB`, `100MB` or a plain number of bytes.
pub(crate) fn bytes(text: &str) -> Parsed<u64> {
    let wrong = || format!("`{text}` is no size: write it like 64MiB, 1GiB or a number of bytes");
    let text = text.trim();
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1_000,
        "kib" | "k" => 1 << 10,
        "mb" => 1_000_000,
        "mib" | "m" => 1 << 20,
        "gb" => 1_000_000_000,
        "gib" | "g" => 1 << 30,
        _ => return Err(wrong()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(wrong)
}

/// `connection_memory`: a size below which not even a few connections fit is a mistake in the unit.
pub(crate) fn connection_memory(text: &str) -> Parsed<u64> {
    match bytes(text)? {
        size if size < 1 << 20 => Err(format!("`{text}` is too little for any connection: give at least 1MiB")),
        size => Ok(size),
    }
}

/// One DNS label for the node.
pub(crate) fn hostname(text: &str) -> Parsed<String> {
    let fits = (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    fits.then(|| text.to_owned()).ok_or_else(|| {
        format!("`{text}` is no host name: one label of a-z, 0-9 and -, at most 63 long; the tailnet adds the domain")
    })
}

/// An ACL tag, with its `tag:`.
pub(crate) fn tag(text: &str) -> Parsed<String> {
    let Some(name) = text.strip_prefix("tag:") else {
        return Err(format!(
            "`{text}` is no tag: a tag begins with `tag:`, as in tag:{text}"
        ));
    };
    let fits = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits.then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is no tag: after `tag:` come a letter, then letters, digits, -"))
}

/// The control server's base URL.
pub(crate) fn control_url(text: &str) -> Parsed<Url> {
    let url = absolute(text)?;
    match url.scheme() {
        "https" | "http" => Ok(url),
        other => Err(format!("`{text}` uses {other}: a control server speaks https")),
    }
}

/// The issuer: scheme, host and perhaps a port, nothing else.
pub(crate) fn issuer(text: &str) -> Parsed<Issuer> {
    Issuer::parse(text).map_err(|error| error.to_string())
}

/// A web origin (RFC 6454): scheme, host, port.
pub(crate) fn origin(text: &str) -> Parsed<String> {
    let wrong = || format!("`{text}` is no web origin: write it like https://tools.example or http://host:8080");
    if text == "*" {
        return Err(
            "`*` would let every web page register clients in the name of whoever views it: list the origins".into(),
        );
    }
    let url = absolute(text).map_err(|_| wrong())?;
    let origin = url.origin();
    (origin.is_tuple() && url.path() == "/")
        .then(|| origin.ascii_serialization())
        .ok_or_else(wrong)
}

/// A log filter in the notation of `tracing_subscriber`'s `EnvFilter`.
pub(crate) fn log_filter(text: &str) -> Parsed<String> {
    // tracing-subscriber 0.3.23 cuts directives at byte offsets and panics inside a longer character.
    if !text.is_ascii() {
        return Err(format!(
            "`{text}` is no log filter: write it like info or info,tailnet_node=debug"
        ));
    }
    tracing_subscriber::EnvFilter::builder()
        .parse(text)
        .map(|_| text.to_owned())
        .map_err(|error| format!("`{text}` is no log filter ({error}): write it like info or info,tailnet_node=debug"))
}

/// The written form of `tls`, before `auto` is resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsMode {
    Auto,
    Files,
    InternalCa,
    Off,
}

/// `tls`.
pub(crate) fn tls(text: &str) -> Parsed<TlsMode> {
    if text == "tailscale" {
        return Err(
            "`tailscale` is reserved for certificates from the control server, which this version cannot get: \
                    use auto, files, internal-ca or off"
                .to_owned(),
        );
    }
    let words = [
        ("auto", TlsMode::Auto),
        ("files", TlsMode::Files),
        ("internal-ca", TlsMode::InternalCa),
        ("off", TlsMode::Off),
    ];
    one_of(text, &words)
}

/// `registration`.
pub(crate) fn registration(text: &str) -> Parsed<Registration> {
    let words = [
        ("capability", Registration::Capability),
        ("network", Registration::Network),
        ("off", Registration::Off),
    ];
    one_of(text, &words)
}

/// One of a few words, or a sentence that lists them.
fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            format!("`{text}` is none of {}", words.join(", "))
        })
}

fn absolute(text: &str) -> Parsed<Url> {
    let url = Url::parse(text).map_err(|error| format!("`{text}` is no URL ({error}): write it like https://name"))?;
    let host = match url.host() {
        Some(Host::Domain(name)) => !name.is_empty(),
        Some(_) => true,
        None => false,
    };
    if !host {
        return Err(format!("`{text}` has no host: write it like https://name"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        // The text itself is not repeated: it holds a password.
        return Err("a URL here cannot carry a user name or password".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "`{text}` has a query or fragment: give only scheme, host and port"
        ));
    }
    Ok(url)
}
