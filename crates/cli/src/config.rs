//! Settings: from flags, `COUNTERSIGN_*` variables and one TOML file to a [`Settings`] value in which every field is
//! valid, or to the list of everything that is wrong.
//!
//! A flag beats a variable, a variable beats the file, the file beats the default. A bad value is reported even where
//! a stronger one hides it: it would come back on the day the stronger one goes. The pre-auth key is read from a file,
//! from a systemd credential or from `TS_AUTHKEY`, never from a flag, which every user of the machine could read.

mod keys;
mod layers;
mod parse;
mod problem;
mod secret;
#[cfg(test)]
mod tests;
mod tokens;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use countersign_server::{ClaimSettings, Issuer, TokenSettings};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use url::Url;

pub(crate) use self::{
    keys::{CONFIG, KEYS, Key},
    layers::Inputs,
    problem::Problems,
    secret::AuthKey,
};
use self::{
    layers::{Layers, Written},
    parse::Parsed,
    problem::Source,
};

/// Everything `serve` needs to know, validated.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) state_dir: PathBuf,
    pub(crate) control_url: Url,
    pub(crate) auth_key: Option<AuthKey>,
    pub(crate) hostname: String,
    pub(crate) tags: Vec<String>,
    pub(crate) port: u16,
    pub(crate) control_plain_http: bool,
    pub(crate) extra_roots: Vec<CertificateDer<'static>>,
    pub(crate) udp_port: Option<u16>,
    pub(crate) tls: Tls,
    pub(crate) issuer: Option<Issuer>,
    pub(crate) registration: Registration,
    pub(crate) cors_origins: Vec<String>,
    pub(crate) routers_are_users: bool,
    pub(crate) require_grant: bool,
    pub(crate) tokens: TokenSettings,
    pub(crate) claims: ClaimSettings,
    pub(crate) audit_retention: Duration,
    pub(crate) netmap_max_age: Duration,
    /// Bytes.
    pub(crate) connection_memory: u64,
    /// 0 = no limit.
    pub(crate) dcr_max_clients_per_user: u32,
    /// Requests per second; 0 = no limit.
    pub(crate) rate_limit_per_peer: u32,
    /// Of all peers together, and so above that of one; 0 = no limit.
    pub(crate) rate_limit: u32,
    pub(crate) log: String,
    /// What is odd but no mistake, to be logged.
    pub(crate) warnings: Vec<String>,
}

/// How the listener proves its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// A chain and key given by the user.
    Files { certificate: PathBuf, key: PathBuf },
    /// Leaves of our own root.
    InternalCa,
    /// Plain http; WireGuard is the only encryption.
    Off,
}

/// Who may register a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registration {
    /// Nodes to which the policy grants `allow_dcr`.
    Capability,
    /// Every node that the packet filter lets in.
    Network,
    /// Nobody.
    Off,
}

/// Reads all settings of `serve`.
pub(crate) fn load(inputs: Inputs) -> Result<Settings, Problems> {
    let mut problems = Problems::default();
    let layers = Layers::read(inputs, &mut problems);
    let mut reader = Reader {
        layers: &layers,
        problems,
    };
    let settings = reader.settings();
    match settings {
        Some(settings) if reader.problems.0.is_empty() => Ok(settings),
        _ => Err(reader.problems),
    }
}

/// Reads only where the state is, for the commands that talk to a server already running: a mistake elsewhere in the
/// configuration must not keep an operator from asking what is wrong.
pub(crate) fn load_state_dir(inputs: Inputs) -> Result<PathBuf, Problems> {
    let mut elsewhere = Problems::default();
    let layers = Layers::read(inputs, &mut elsewhere);
    let unreadable = elsewhere
        .0
        .into_iter()
        .filter(|problem| problem.text.starts_with(layers::CANNOT_READ))
        .collect();
    let mut reader = Reader {
        layers: &layers,
        problems: Problems(unreadable),
    };
    match reader.state_dir() {
        Some(state_dir) if reader.problems.0.is_empty() => Ok(state_dir),
        _ => Err(reader.problems),
    }
}

/// Takes values out of the layers and gathers what is wrong with them. A value that is absent or bad is `None`, so
/// that reading goes on to the next one.
struct Reader<'a> {
    layers: &'a Layers,
    problems: Problems,
}

impl Reader<'_> {
    fn settings(&mut self) -> Option<Settings> {
        let state_dir = self.state_dir();
        let control_plain_http = self.one("control_plain_http", parse::boolean);
        let control_url = self.control_url(control_plain_http == Some(true));
        let auth_key = secret::auth_key(self.layers, &mut self.problems);
        let hostname = self.one("hostname", parse::hostname);
        let tags = self.many("tags", parse::tag);
        let port = self.one("port", parse::port);
        let extra_roots = self.extra_roots();
        let udp_port = self.one("udp_port", parse::udp_port);
        let tls = self.tls();
        let issuer = self.issuer(tls.as_ref());
        let registration = self.one("registration", parse::registration);
        let cors_origins = self.many("cors_origins", parse::origin);
        let routers_are_users = self.one("routers_are_users", parse::boolean);
        let require_grant = self.one("require_grant", parse::boolean);
        let tokens = self.tokens();
        let claims = self.claims();
        let audit_retention = self.one("audit_retention", tokens::audit_retention);
        let netmap_max_age = self.one("netmap_max_age", parse::duration);
        let connection_memory = self.one("connection_memory", parse::connection_memory);
        let dcr_max_clients_per_user = self.one("dcr_max_clients_per_user", parse::count);
        let (rate_limit_per_peer, rate_limit) = self.rates();
        let log = self.one("log", parse::log_filter);
        let port_written = !self.layers.written("port").is_empty();
        Some(Settings {
            state_dir: state_dir?,
            control_url: control_url?,
            auth_key,
            hostname: hostname?,
            tags: tags?,
            port: if tls == Some(Tls::Off) && !port_written {
                80
            } else {
                port?
            },
            control_plain_http: control_plain_http?,
            extra_roots,
            udp_port: udp_port?,
            tls: tls?,
            issuer,
            registration: registration?,
            cors_origins: cors_origins?,
            routers_are_users: routers_are_users?,
            require_grant: require_grant?,
            tokens: tokens?,
            claims: claims?,
            audit_retention: audit_retention?,
            netmap_max_age: netmap_max_age?,
            connection_memory: connection_memory?,
            dcr_max_clients_per_user: dcr_max_clients_per_user?,
            rate_limit_per_peer: rate_limit_per_peer?,
            rate_limit: rate_limit?,
            log: log?,
            warnings: self.layers.warnings.clone(),
        })
    }

    /// A setting of one value: the strongest that was written, else the default.
    fn one<T>(&mut self, name: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<T> {
        self.every(name, |written| match written.values.as_slice() {
            [] => Err("is empty: give a value, or leave it out".to_owned()),
            [.., last] => parse(last),
        })
    }

    /// A setting that is a list.
    fn many<T>(&mut self, name: &str, parse: impl Fn(&str) -> Parsed<T>) -> Option<Vec<T>> {
        self.every(name, |written| {
            written.values.iter().map(|value| parse(value)).collect()
        })
    }

    /// Reads each layer, so that each bad value is reported, and returns what the strongest one says.
    fn every<T>(&mut self, name: &str, parse: impl Fn(&Written) -> Parsed<T>) -> Option<T> {
        let mut strongest = None;
        for (rank, written) in self.layers.written(name).iter().enumerate() {
            match parse(written) {
                Ok(value) if rank == 0 => strongest = Some(value),
                Ok(_) => {}
                Err(text) => self.problems.add(written.source.clone(), text),
            }
        }
        if self.layers.written(name).is_empty() {
            return parse(&layers::default_of(name)?).ok();
        }
        strongest
    }

    fn source_of(&self, name: &str) -> Source {
        self.layers
            .written(name)
            .first()
            .map_or(Source::Whole, |written| written.source.clone())
    }

    fn state_dir(&mut self) -> Option<PathBuf> {
        // With StateDirectory= systemd says which folder it made; a colon would separate several.
        let by_systemd = self
            .layers
            .environment
            .get("STATE_DIRECTORY")
            .and_then(|dirs| dirs.split(':').next());
        match by_systemd.filter(|dir| !dir.is_empty() && self.layers.written("state_dir").is_empty()) {
            Some(dir) => Some(PathBuf::from(dir)),
            None => self.one("state_dir", parse::path),
        }
    }

    fn control_url(&mut self, plain_http: bool) -> Option<Url> {
        if self.layers.written("control_url").is_empty() {
            let text = "control_url is not set: give the URL of your Headscale, or https://controlplane.tailscale.com";
            self.problems.add(Source::Whole, text);
        }
        let url = self.one("control_url", parse::control_url)?;
        if url.scheme() == "http" && !plain_http {
            let text = format!("{url} is not encrypted: use https, or set control_plain_http = true if that is meant");
            self.problems.add(self.source_of("control_url"), text);
        }
        Some(url)
    }

    /// Of one peer, and of all together: without a word about these, twenty times as much.
    fn rates(&mut self) -> (Option<u32>, Option<u32>) {
        let per_peer = self.one("rate_limit_per_peer", parse::count);
        if self.layers.written("rate_limit").is_empty() {
            return (per_peer, per_peer.map(|peer| peer.saturating_mul(20)));
        }
        let in_total = self.one("rate_limit", parse::count);
        if let (Some(peer), Some(all @ 1..)) = (per_peer, in_total)
            && all <= peer
        {
            let text = format!(
                "rate_limit = {all} is not above rate_limit_per_peer = {peer}, so that one peer could use it up for all \
                 others: make it many times as much, leave it out, or 0 for no limit"
            );
            self.problems.add(self.source_of("rate_limit"), text);
        }
        (per_peer, in_total)
    }

    fn extra_roots(&mut self) -> Vec<CertificateDer<'static>> {
        self.one("extra_ca_file", |text| certificates(&parse::path(text)?))
            .unwrap_or_default()
    }

    fn tls(&mut self) -> Option<Tls> {
        let certificate = self.one("tls_cert_file", readable);
        let key = self.one("tls_key_file", readable);
        let written = |name| !self.layers.written(name).is_empty();
        let (has_certificate, has_key) = (written("tls_cert_file"), written("tls_key_file"));
        for (present, missing) in [("tls_cert_file", "tls_key_file"), ("tls_key_file", "tls_cert_file")] {
            if written(present) && !written(missing) {
                self.problems
                    .add(self.source_of(present), format!("{present} needs {missing} beside it"));
            }
        }
        let mode = self.one("tls", parse::tls)?;
        let files = certificate
            .zip(key)
            .map(|(certificate, key)| Tls::Files { certificate, key });
        match mode {
            parse::TlsMode::Auto if has_certificate || has_key => files,
            parse::TlsMode::Auto => Some(Tls::InternalCa),
            parse::TlsMode::Files if !has_certificate && !has_key => {
                self.problems.add(
                    self.source_of("tls"),
                    "tls = files needs tls_cert_file and tls_key_file",
                );
                None
            }
            parse::TlsMode::Files => files,
            parse::TlsMode::InternalCa | parse::TlsMode::Off if has_certificate || has_key => {
                let text = "the certificate files would not be used: set tls = files, or leave them out";
                self.problems.add(self.source_of("tls"), text);
                None
            }
            parse::TlsMode::InternalCa => Some(Tls::InternalCa),
            parse::TlsMode::Off => Some(Tls::Off),
        }
    }

    fn issuer(&mut self, tls: Option<&Tls>) -> Option<Issuer> {
        let issuer = self.one("issuer", parse::issuer)?;
        let https = *tls? != Tls::Off;
        if issuer.is_https() != https {
            let served = if https { "https" } else { "http" };
            let text = format!("{issuer} cannot be served: with this tls setting the scheme is {served}");
            self.problems.add(self.source_of("issuer"), text);
        }
        Some(issuer)
    }
}

fn readable(text: &str) -> Parsed<PathBuf> {
    let path = parse::path(text)?;
    match std::fs::File::open(&path) {
        Ok(_) => Ok(path),
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
    }
}

fn certificates(path: &Path) -> Parsed<Vec<CertificateDer<'static>>> {
    let certificates: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).and_then(|certificates| certificates.collect());
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(format!("{} holds no PEM certificate", path.display())),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("cannot read certificates from {}: {error}", path.display())),
    }
}
