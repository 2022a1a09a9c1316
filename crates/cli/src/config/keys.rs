//! The one list of settings. Flags, help, environment names, file keys, defaults and the example file all come from
//! here, so that a setting cannot exist in one place and be missing in another.

/// One setting, as it is written in the TOML file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    /// Name in the file; the flag is `--` plus this with hyphens, the variable `COUNTERSIGN_` plus this in capitals.
    pub(crate) name: &'static str,
    /// What stands for the value in `--help`.
    pub(crate) value: &'static str,
    /// One line for `--help`, without the default.
    pub(crate) help: &'static str,
    /// The default as it would be written, or `None` where the setting is absent by default.
    pub(crate) default: Option<&'static str>,
    /// May be given several times, or as a comma-separated list.
    pub(crate) list: bool,
}

impl Key {
    const fn new(name: &'static str, value: &'static str, default: Option<&'static str>, help: &'static str) -> Self {
        Self {
            name,
            value,
            help,
            default,
            list: false,
        }
    }

    const fn list(mut self) -> Self {
        self.list = true;
        self
    }

    /// The long flag without its hyphens, for example `state-dir`.
    pub(crate) fn flag(&self) -> String {
        self.name.replace('_', "-")
    }

    /// The environment variable, for example `COUNTERSIGN_STATE_DIR`.
    pub(crate) fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.name.to_ascii_uppercase())
    }
}

/// What every environment variable of ours begins with.
pub(crate) const VARIABLE_PREFIX: &str = "COUNTERSIGN_";

/// Where the configuration file is looked for when nothing names one. It may be missing.
pub(crate) const DEFAULT_FILE: &str = "/etc/countersign/countersign.toml";

/// Where state lives when neither a setting nor systemd's `STATE_DIRECTORY` says otherwise.
pub(crate) const DEFAULT_STATE_DIR: &str = "/var/lib/countersign";

/// The name of the configuration file itself: a flag and a variable, but not a key of the file.
pub(crate) const CONFIG: Key = Key::new(
    "config",
    "FILE",
    Some(DEFAULT_FILE),
    "TOML file of settings; the default one may be missing",
);

/// Every key of the file, in the order of `--help` and of `docs/countersign.toml`.
pub(crate) const KEYS: &[Key] = &[
    Key::new(
        "state_dir",
        "DIR",
        Some(DEFAULT_STATE_DIR),
        "Where keys and clients are kept, for this process alone",
    ),
    Key::new(
        "control_url",
        "URL",
        None,
        "Control server to join: your Headscale, or https://controlplane.tailscale.com",
    ),
    Key::new(
        "control_plain_http",
        "BOOL",
        Some("false"),
        "Accept an http:// control_url, for tests: nobody then vouches for the server's key",
    ),
    Key::new(
        "auth_key_file",
        "FILE",
        None,
        "File that holds the pre-auth key; TS_AUTHKEY or the credential auth_key also do",
    ),
    Key::new("hostname", "NAME", Some("idp"), "Name to ask for on the tailnet"),
    Key::new(
        "tags",
        "TAGS",
        Some("tag:internal-idp"),
        "Tags to ask for; without every one of them nothing is served",
    )
    .list(),
    Key::new(
        "port",
        "PORT",
        Some("443"),
        "TCP port on the tailnet addresses; with tls = off the default is 80",
    ),
    Key::new(
        "extra_ca_file",
        "FILE",
        None,
        "PEM file of further roots to trust for control and DERP",
    ),
    Key::new(
        "udp_port",
        "PORT",
        Some("0"),
        "Local UDP port for direct paths; 0 lets the system choose",
    ),
    Key::new(
        "tls",
        "MODE",
        Some("auto"),
        "auto (files when given, else internal-ca), files, internal-ca or off",
    ),
    Key::new(
        "tls_cert_file",
        "FILE",
        None,
        "PEM certificate chain, read again when it changes",
    ),
    Key::new("tls_key_file", "FILE", None, "PEM private key of tls_cert_file"),
    Key::new(
        "issuer",
        "URL",
        None,
        "Issuer, fixed at first start; derived from the assigned name when not set",
    ),
    Key::new(
        "registration",
        "WHO",
        Some("capability"),
        "Who may register clients: capability (allow_dcr), network or off",
    ),
    Key::new(
        "cors_origins",
        "ORIGINS",
        Some(""),
        "Web origins besides loopback that may call /register",
    )
    .list(),
    Key::new(
        "routers_are_users",
        "BOOL",
        Some("false"),
        "Take a node that advertises routes for its user, though it may forward others",
    ),
    Key::new(
        "require_grant",
        "BOOL",
        Some("false"),
        "Let only those log in whom a rule of the policy names in its users",
    ),
    Key::new(
        "access_token_lifetime",
        "TIME",
        Some("5m"),
        "How long an access token or id_token is good, at most 5m",
    ),
    Key::new(
        "grant_lifetime",
        "TIME",
        Some("30d"),
        "How long a client may refresh before the user is asked again",
    ),
    Key::new(
        "refresh_grace",
        "TIME",
        Some("10m"),
        "How long a spent refresh token gives its successor again on the same node; 0 = never",
    ),
    Key::new(
        "signing_key_lifetime",
        "TIME",
        Some("30d"),
        "How long a key signs before the next one takes over",
    ),
    Key::new(
        "email_domain",
        "DOMAIN",
        None,
        "Domain of the addresses of users whose login is a bare word",
    ),
    Key::new(
        "verified_email_domains",
        "LIST",
        Some(""),
        "Domains for whose addresses email_verified is true",
    )
    .list(),
    Key::new(
        "audit_retention",
        "TIME",
        Some("90d"),
        "How long records of decisions are kept",
    ),
    Key::new(
        "netmap_max_age",
        "TIME",
        Some("24h"),
        "How long identities count while control is unreachable",
    ),
    Key::new(
        "connection_memory",
        "SIZE",
        Some("64MiB"),
        "Memory for the buffers of all tailnet connections together",
    ),
    Key::new(
        "dcr_max_clients_per_user",
        "N",
        Some("100"),
        "Clients that one user or tagged node may have registered; 0 = no limit",
    ),
    Key::new(
        "rate_limit_per_peer",
        "N",
        Some("100"),
        "Requests per second that one peer may make, and connections it may open; 0 = no limit",
    ),
    Key::new(
        "rate_limit",
        "N",
        None,
        "The same of all peers together [default: 20 times that]",
    ),
    Key::new(
        "log",
        "FILTER",
        Some("info"),
        "What to log: error, warn, info, debug, trace, or target=level,...",
    ),
];

/// Finds a key of the file by its exact name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The nearest existing name to a mistyped one, if any is near enough to be what was meant.
pub(crate) fn suggest(name: &str) -> Option<&'static str> {
    let wanted = name.to_ascii_lowercase().replace('-', "_");
    let close = |key: &&Key| (strsim::jaro_winkler(&wanted, key.name), key.name);
    KEYS.iter()
        .map(|key| close(&key))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}
