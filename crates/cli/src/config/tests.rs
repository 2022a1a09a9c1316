//! Precedence, human units, and the promise that one run reports everything that is wrong.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use proptest::prelude::*;

use super::{keys, layers::Inputs, parse, *};

const CONTROL: (&str, &str) = ("COUNTERSIGN_CONTROL_URL", "https://hs.example");

struct Written {
    inputs: Inputs,
    folder: tempfile::TempDir,
}

impl Written {
    fn new() -> Self {
        Self {
            inputs: Inputs::default(),
            folder: tempfile::tempdir().unwrap(),
        }
        .variable(CONTROL.0, CONTROL.1)
    }

    fn flag(mut self, name: &'static str, value: &str) -> Self {
        self.inputs.flags.push((name, vec![value.to_owned()]));
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.inputs.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.inputs.environment.remove(name);
        self
    }

    fn toml(mut self, text: &str) -> Self {
        self.inputs.default_file = Some(self.file("countersign.toml", text));
        self
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn load(&self) -> Result<Settings, Problems> {
        load(self.inputs.clone())
    }

    fn problems(&self) -> Vec<String> {
        let folder = format!("{}/", self.folder.path().display());
        self.load()
            .unwrap_err()
            .0
            .iter()
            .map(|problem| problem.to_string().replace(&folder, ""))
            .collect()
    }
}

#[test]
fn a_control_url_is_enough() {
    let settings = Written::new().load().unwrap();
    assert_eq!(settings.state_dir, PathBuf::from("/var/lib/countersign"));
    assert_eq!(settings.hostname, "idp");
    assert_eq!(settings.tags, ["tag:internal-idp"]);
    assert_eq!(settings.port, 443);
    assert_eq!(settings.tls, Tls::InternalCa);
    assert_eq!(settings.registration, Registration::Capability);
    assert_eq!(settings.connection_memory, 64 << 20);
    assert_eq!(settings.netmap_max_age, Duration::from_secs(24 * 3600));
    assert_eq!(settings.tokens, TokenSettings::default());
    assert_eq!(settings.claims, ClaimSettings::default());
    assert!(!settings.require_grant);
    assert_eq!(settings.udp_port, None);
    assert_eq!(settings.cors_origins, Vec::<String>::new());
    assert!(settings.auth_key.is_none());
}

#[test]
fn a_flag_beats_a_variable_beats_the_file_beats_the_default() {
    let written = Written::new().toml("hostname = \"from-file\"\nport = 1\nudp_port = 3");
    let written = written
        .variable("COUNTERSIGN_HOSTNAME", "from-variable")
        .variable("COUNTERSIGN_PORT", "2");
    let settings = written.flag("hostname", "from-flag").load().unwrap();
    assert_eq!(settings.hostname, "from-flag");
    assert_eq!(settings.port, 2);
    assert_eq!(settings.udp_port, Some(3));
    assert_eq!(settings.log, "info");
}

#[test]
fn every_bad_value_is_reported_in_one_run_with_its_place() {
    let toml = r#"
hostnam = "idp"
port = 70000
tls = "tailscale"
cors_origins = ["https://ok.example", "*"]
netmap_max_age = "24"
rate_limit_per_peer = -1
access_token_lifetime = "6m"
refresh_grace = "1d"
email_domain = "@example.com"
verified_email_domains = ["example.com", "example"]
[server]
log = "debug"
"#;
    let written = Written::new()
        .toml(toml)
        .variable("COUNTERSIGN_TAGS", "internal-idp")
        .variable("COUNTERSIGN_PRT", "1");
    let written = written
        .variable(CONTROL.0, "http://hs.example")
        .flag("connection_memory", "64 parsecs");
    let problems = written.flag("registration", "anyone").problems();
    let starts = [
        "COUNTERSIGN_PRT: unknown setting: did you mean COUNTERSIGN_PORT?",
        "countersign.toml:2: unknown setting: did you mean hostname?",
        "countersign.toml:12: unknown section [server]",
        "COUNTERSIGN_CONTROL_URL: http://hs.example/ is not encrypted",
        "COUNTERSIGN_TAGS: `internal-idp` is no tag: a tag begins with `tag:`, as in tag:internal-idp",
        "countersign.toml:3: `70000` is no port",
        "countersign.toml:4: `tailscale` is reserved",
        "--registration: `anyone` is none of capability, network, off",
        "countersign.toml:5: `*` would let every web page",
        "countersign.toml:8: `6m` is out of range: give whole seconds from 30s to 5m",
        "countersign.toml:9: `1d` is out of range",
        "countersign.toml:10: `@example.com` is no mail domain",
        "countersign.toml:11: `example` is no mail domain",
        "countersign.toml:6: `24` is no span of time",
        "--connection-memory: `64 parsecs` is no size",
        "countersign.toml:7: `-1` is no whole number",
    ];
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n  should start with {start}");
    }
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
}

#[test]
fn a_bad_value_that_a_stronger_one_hides_is_still_reported() {
    let problems = Written::new().toml("port = 0").flag("port", "443").problems();
    assert_eq!(problems, ["countersign.toml:1: `0` is no port: give 1 to 65535"]);
}

#[test]
fn all_mistakes_of_form_in_the_file_are_reported() {
    let problems = Written::new()
        .toml("port = \nhostname = \"idp\nlog = \"info\"\ntags = [1, [2]]\nport = 3")
        .problems();
    assert!(problems.len() >= 3, "{problems:#?}");
    assert!(
        problems[0].starts_with("countersign.toml:1: not TOML here"),
        "{problems:#?}"
    );
}

#[test]
fn control_url_is_needed_and_plain_http_must_be_meant() {
    let problems = Written::new().without(CONTROL.0).problems();
    assert!(
        problems[0].starts_with("configuration: control_url is not set"),
        "{problems:?}"
    );
    let plain = Written::new().variable(CONTROL.0, "http://127.0.0.1:8080");
    assert_eq!(plain.problems().len(), 1);
    let meant = plain.variable("COUNTERSIGN_CONTROL_PLAIN_HTTP", "true").load().unwrap();
    assert_eq!(meant.control_url.as_str(), "http://127.0.0.1:8080/");
}

#[test]
fn a_named_file_must_exist_and_a_default_one_need_not() {
    let mut written = Written::new();
    written.inputs.default_file = Some(PathBuf::from("/nowhere/countersign.toml"));
    assert!(written.load().is_ok());
    let problems = written.flag("config", "/nowhere/else.toml").problems();
    assert!(
        problems[0].starts_with("--config: cannot read the file /nowhere/else.toml"),
        "{problems:?}"
    );
}

#[test]
fn tls_off_moves_to_port_80_unless_told_otherwise() {
    let off = Written::new().variable("COUNTERSIGN_TLS", "off");
    assert_eq!(off.load().unwrap().port, 80);
    assert_eq!(off.flag("port", "443").load().unwrap().port, 443);
}

#[test]
fn tls_auto_takes_the_files_when_both_are_there() {
    let written = Written::new();
    let (certificate, key) = (written.file("cert.pem", "x"), written.file("key.pem", "y"));
    let half = written.flag("tls_cert_file", certificate.to_str().unwrap());
    assert_eq!(
        half.problems(),
        ["--tls-cert-file: tls_cert_file needs tls_key_file beside it"]
    );
    let whole = half.flag("tls_key_file", key.to_str().unwrap());
    assert_eq!(whole.load().unwrap().tls, Tls::Files { certificate, key });
    let unused = whole.variable("COUNTERSIGN_TLS", "internal-ca").problems();
    assert!(
        unused[0].starts_with("COUNTERSIGN_TLS: the certificate files would not be used"),
        "{unused:?}"
    );
}

#[test]
fn tls_files_needs_files_that_can_be_read() {
    let problems = Written::new().flag("tls", "files").problems();
    assert_eq!(problems, ["--tls: tls = files needs tls_cert_file and tls_key_file"]);
    let missing = Written::new()
        .flag("tls_cert_file", "/nowhere/c")
        .flag("tls_key_file", "/nowhere/k")
        .problems();
    assert_eq!(missing.len(), 2, "{missing:?}");
}

#[test]
fn the_issuer_fits_the_scheme_served() {
    let written = Written::new().flag("issuer", "http://idp.tail.example");
    assert!(written.problems()[0].contains("with this tls setting the scheme is https"));
    assert!(written.variable("COUNTERSIGN_TLS", "off").load().is_ok());
    for bad in [
        "https://idp.tail.example/",
        "https://idp/oauth",
        "https://u:p@idp",
        "https://idp?x",
        "idp",
        "ftp://idp",
    ] {
        assert_eq!(Written::new().flag("issuer", bad).problems().len(), 1, "{bad}");
    }
}

#[test]
fn extra_roots_are_read_at_once() {
    let written = Written::new();
    let empty = written.file("empty.pem", "");
    let problems = written.flag("extra_ca_file", empty.to_str().unwrap()).problems();
    assert!(problems[0].ends_with("holds no PEM certificate"), "{problems:?}");
    let missing = Written::new().flag("extra_ca_file", "/nowhere/ca.pem").problems();
    assert!(missing[0].contains("/nowhere/ca.pem"), "{missing:?}");
}

#[test]
fn the_pre_auth_key_comes_from_file_variable_or_credential_in_the_usual_order() {
    let found = |written: &Written| {
        written
            .load()
            .unwrap()
            .auth_key
            .map(|key| key.secret.expose().to_owned())
    };
    let written = Written::new();
    written.file("auth_key", "by-credential\n");
    let folder = written.folder.path().to_str().unwrap().to_owned();
    let written = written.variable("CREDENTIALS_DIRECTORY", &folder);
    assert_eq!(found(&written).as_deref(), Some("by-credential"));
    let in_file = written.file("in-file", "by-file\n");
    let written = written.toml(&format!("auth_key_file = {in_file:?}"));
    assert_eq!(found(&written).as_deref(), Some("by-file"));
    let written = written.variable("TS_AUTHKEY", "by-variable");
    assert_eq!(found(&written).as_deref(), Some("by-variable"));
    let by_flag = written.file("by-flag", "by-flag");
    let written = written.flag("auth_key_file", by_flag.to_str().unwrap());
    assert_eq!(found(&written).as_deref(), Some("by-flag"));
}

#[test]
fn the_pre_auth_key_is_never_shown() {
    let settings = Written::new().variable("TS_AUTHKEY", "tskey-secret").load().unwrap();
    assert!(!format!("{settings:?}").contains("tskey-secret"));
}

#[test]
fn a_pre_auth_key_in_a_wrong_place_is_refused_without_repeating_it() {
    let written = Written::new()
        .toml("auth_key = \"tskey-secret\"")
        .variable("COUNTERSIGN_AUTH_KEY", "tskey-secret");
    let problems = written.problems();
    assert_eq!(problems.len(), 2);
    assert!(
        problems
            .iter()
            .all(|text| text.contains("auth_key_file") && !text.contains("tskey-secret")),
        "{problems:?}"
    );
}

#[test]
fn an_unusable_key_file_says_why() {
    for (content, why) in [("", "is empty"), ("two words", "more than one word")] {
        let written = Written::new();
        let path = written.file("key", content);
        let problems = written.flag("auth_key_file", path.to_str().unwrap()).problems();
        assert!(problems[0].contains(why), "{problems:?}");
    }
}

#[test]
fn systemd_names_the_state_folder_unless_a_setting_does() {
    let written = Written::new().variable("STATE_DIRECTORY", "/var/lib/private/countersign:/var/lib/other");
    assert_eq!(
        written.load().unwrap().state_dir,
        PathBuf::from("/var/lib/private/countersign")
    );
    assert_eq!(
        written.flag("state_dir", "/srv/cs").load().unwrap().state_dir,
        PathBuf::from("/srv/cs")
    );
}

#[test]
fn variables_of_a_kubernetes_service_are_not_mistaken_for_settings() {
    let written = Written::new().variable("COUNTERSIGN_SERVICE_HOST", "10.0.0.1");
    let written = written.variable("COUNTERSIGN_PORT_443_TCP_ADDR", "10.0.0.1");
    assert!(written.load().is_ok());
    let problems = written.variable("COUNTERSIGN_PORT", "tcp://10.0.0.1:443").problems();
    assert!(problems[0].contains("enableServiceLinks"), "{problems:?}");
}

#[test]
fn a_variable_that_resembles_no_setting_is_somebody_elses() {
    let settings = Written::new().variable("COUNTERSIGN_LAB_BIN", "/lab").load().unwrap();
    assert_eq!(settings.warnings, ["COUNTERSIGN_LAB_BIN is no setting and was ignored"]);
}

#[test]
fn an_empty_variable_is_an_empty_list_but_not_a_value() {
    let settings = Written::new().variable("COUNTERSIGN_TAGS", "").load().unwrap();
    assert_eq!(settings.tags, Vec::<String>::new());
    assert_eq!(Written::new().variable("COUNTERSIGN_PORT", "").problems().len(), 1);
    assert_eq!(Written::new().variable("COUNTERSIGN_STATE_DIR", "").problems().len(), 1);
}

#[test]
fn the_state_folder_is_found_in_spite_of_mistakes_elsewhere() {
    let written = Written::new().toml("state_dir = \"/srv/cs\"\nport = 0\nhostnam = 1");
    assert_eq!(
        load_state_dir(written.inputs.clone()).unwrap(),
        PathBuf::from("/srv/cs")
    );
    let unreadable = written.flag("config", "/nowhere/c.toml");
    assert!(load_state_dir(unreadable.inputs.clone()).is_err());
}

#[test]
fn every_default_is_a_value_its_own_parser_accepts() {
    assert!(Written::new().load().is_ok());
    let defaults: BTreeMap<_, _> = KEYS
        .iter()
        .filter_map(|key| Some((key.variable(), key.default?.to_owned())))
        .collect();
    let mut written = Written::new();
    written.inputs.environment.extend(defaults);
    assert_eq!(
        format!("{:?}", written.load().unwrap()),
        format!("{:?}", Written::new().load().unwrap())
    );
}

#[test]
fn sizes_and_times_are_written_as_people_write_them() {
    for (text, bytes) in [
        ("64MiB", 64 << 20),
        ("1 GiB", 1 << 30),
        ("2mb", 2_000_000),
        ("1024", 1024),
        ("8k", 8192),
    ] {
        assert_eq!(parse::bytes(text), Ok(bytes), "{text}");
    }
    for text in [
        "",
        "MiB",
        "-1",
        "1.5MiB",
        "99999999999999999999",
        "18446744073709551615KiB",
        "1 2",
    ] {
        assert!(parse::bytes(text).is_err(), "{text}");
    }
    for (text, seconds) in [
        ("24h", 86_400),
        ("90s", 90),
        ("1h30m", 5400),
        ("7d", 604_800),
        ("1h 30min", 5400),
    ] {
        assert_eq!(parse::duration(text), Ok(Duration::from_secs(seconds)), "{text}");
    }
    for text in [
        "",
        "0s",
        "24",
        "h",
        "1w",
        "-1h",
        "1h30",
        "99999999999999999999s",
        "18446744073709551615d",
    ] {
        assert!(parse::duration(text).is_err(), "{text}");
    }
}

#[test]
fn suggestions_are_near_or_absent() {
    assert_eq!(keys::suggest("state-dir"), Some("state_dir"));
    assert_eq!(keys::suggest("hostnam"), Some("hostname"));
    assert_eq!(keys::suggest("control"), Some("control_url"));
    assert_eq!(keys::suggest("zzz"), None);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in ".{0,40}") {
        let _ = (parse::bytes(&text), parse::duration(&text), parse::port(&text), parse::hostname(&text));
        let _ = (parse::tag(&text), parse::origin(&text), parse::issuer(&text), parse::control_url(&text));
        let _ = parse::log_filter(&text);
    }

    #[test]
    fn no_file_makes_reading_panic(text in "([a-z_]{1,8}|=|\"|\\[|\\]|\n|[0-9]| |#|\\.|'|\\{|\\}|,|é){0,40}") {
        let _ = Written::new().toml(&text).load();
    }
}

/// `docs/countersign.toml` with every setting taken out of its comment.
fn example() -> String {
    let text = include_str!("../../../../docs/countersign.toml");
    let uncommented = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(|line| uncommented(line) + "\n").collect()
}

#[test]
fn the_example_file_names_every_setting_with_its_default() {
    let mut problems = Problems::default();
    let mut written = Written::new().without(CONTROL.0).toml(&example());
    let layers = Layers::read(written.inputs.clone(), &mut problems);
    assert_eq!(problems.0, []);
    for key in KEYS {
        let values = layers.written(key.name).first().map(|written| written.values.clone());
        match layers::default_of(key.name) {
            Some(default) => assert_eq!(values, Some(default.values), "{}", key.name),
            None => assert!(values.is_some(), "{} is missing", key.name),
        }
    }
    // As it stands, all in comments, it says nothing and is no mistake.
    written = Written::new().toml(include_str!("../../../../docs/countersign.toml"));
    assert_eq!(
        format!("{:?}", written.load().unwrap()),
        format!("{:?}", Written::new().load().unwrap())
    );
}

#[test]
fn an_emptied_credential_is_no_key_and_no_mistake() {
    let written = Written::new();
    written.file("auth_key", "");
    let folder = written.folder.path().to_str().unwrap().to_owned();
    let settings = written.variable("CREDENTIALS_DIRECTORY", &folder).load().unwrap();
    assert!(settings.auth_key.is_none());
}

#[test]
fn what_all_peers_may_do_is_more_than_what_one_may_do() {
    for (toml, per_peer, in_total) in [
        ("", 100, 2000),
        ("rate_limit_per_peer = 3000", 3000, 60_000),
        ("rate_limit_per_peer = 0", 0, 0),
        ("rate_limit = 0", 100, 0),
        ("rate_limit = 101", 100, 101),
        ("rate_limit_per_peer = 0\nrate_limit = 500", 0, 500),
    ] {
        let settings = Written::new().toml(toml).load().unwrap();
        assert_eq!(
            (settings.rate_limit_per_peer, settings.rate_limit),
            (per_peer, in_total),
            "{toml}"
        );
    }
    let problems = Written::new().toml("rate_limit = 100").problems();
    assert!(
        problems[0].starts_with("countersign.toml:1: rate_limit = 100 is not above"),
        "{problems:?}"
    );
}
