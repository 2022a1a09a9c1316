//! Rules of `docs/ARCHITECTURE.md` that no compiler checks. Each failure names the file, the line and the rule.

#![allow(clippy::expect_used, reason = "a test may stop where it stands")]

use std::{fmt::Write as _, fs, path::Path};

use countersign_purity::{manifest::Manifest, root, source};

/// Crates whose code is a function of its arguments.
const PURE: [&str; 3] = ["crates/wire", "crates/engine", "crates/oauth"];

/// What pure code may not name, and what to do instead.
const FORBIDDEN: [(&str, &str); 29] = [
    ("Instant::now", "take `now: Instant` as an argument"),
    (".elapsed", "it reads the clock: take `now` and subtract"),
    ("SystemTime", "take `wall: OffsetDateTime` as an argument"),
    ("OffsetDateTime::now_utc", "take `wall: OffsetDateTime` as an argument"),
    (
        "OffsetDateTime::now_local",
        "take `wall: OffsetDateTime` as an argument",
    ),
    ("UtcDateTime::now", "take `wall: OffsetDateTime` as an argument"),
    ("getrandom", "take `rng: &mut dyn RngCore` as an argument"),
    ("thread_rng", "take `rng: &mut dyn RngCore` as an argument"),
    ("rand::rng", "take `rng: &mut dyn RngCore` as an argument"),
    ("rand::random", "take `rng: &mut dyn RngCore` as an argument"),
    ("OsRng", "take `rng: &mut dyn RngCore` as an argument"),
    ("ThreadRng", "take `rng: &mut dyn RngCore` as an argument"),
    ("from_os_rng", "take `rng: &mut dyn RngCore` as an argument"),
    ("from_entropy", "take `rng: &mut dyn RngCore` as an argument"),
    ("StaticSecret::random", "make the key from bytes that are an argument"),
    ("EphemeralSecret", "make the key from bytes that are an argument"),
    (
        "RandomState",
        "use an ordered map or a hasher with a key that is an argument",
    ),
    ("tokio", "tasks and timers live in tailnet-node and countersign-server"),
    ("TcpStream", "sockets live in tailnet-node"),
    ("TcpListener", "sockets live in tailnet-node"),
    ("std::net::UdpSocket", "sockets live in tailnet-node"),
    ("to_socket_addrs", "names are resolved in tailnet-node"),
    (
        "std::fs",
        "files live in tailnet-node, countersign-store and the binary",
    ),
    ("std::env", "settings are arguments"),
    ("std::thread", "threads live in tailnet-node and the binary"),
    ("std::process", "processes are the binary's business"),
    ("println", "log with `tracing`"),
    ("eprintln", "log with `tracing`"),
    ("stdin", "input is an argument"),
];

/// Where a forbidden name is allowed, and why.
const EXCEPTIONS: [(&str, &str, &str); 0] = [];

/// Which crates of this repository a crate may be built from.
const ARROWS: [(&str, &[&str]); 8] = [
    ("crates/wire", &[]),
    ("crates/engine", &["tailnet-wire"]),
    ("crates/node", &["tailnet-wire", "tailnet-engine"]),
    ("crates/oauth", &[]),
    ("crates/store", &["countersign-oauth"]),
    (
        "crates/server",
        &["tailnet-node", "countersign-oauth", "countersign-store"],
    ),
    (
        "crates/cli",
        &[
            "tailnet-node",
            "countersign-server",
            "countersign-store",
            "countersign-oauth",
            "tailnet-testkit",
        ],
    ),
    ("crates/testkit", &["tailnet-wire", "tailnet-engine", "tailnet-node"]),
];

/// Packages that no pure crate may be built from, whatever it calls in them.
const IMPURE_PACKAGES: [&str; 9] = [
    "tokio",
    "getrandom",
    "mio",
    "socket2",
    "quinn-udp",
    "hyper",
    "sled",
    "reqwest",
    "rustix",
];

/// The only files that may name a package: the rest of the code sees our own types.
const HOMES: [(&str, usize, &[&str]); 2] = [
    ("boringtun", 1, &["crates/engine/src/tunnel.rs"]),
    ("smoltcp", 2, &["crates/engine/src/netstack"]),
];

#[test]
fn pure_crates_name_no_clock_random_source_runtime_or_socket() {
    let mut found = String::new();
    let mut scanned = 0;
    for folder in PURE {
        for (file, mentions) in sources(&format!("{folder}/src")) {
            scanned += 1;
            for mention in &mentions {
                let rules = FORBIDDEN.iter().filter(|(pattern, _)| mention.matches(pattern));
                for (pattern, instead) in rules.filter(|(pattern, _)| !is_exception(&file, pattern)) {
                    let line = mention.line;
                    writeln!(found, "{file}:{line} names `{pattern}`: {instead}").expect("text");
                }
            }
        }
    }
    assert!(scanned > 10, "only {scanned} files were scanned");
    assert!(
        found.is_empty(),
        "the pure crates must be functions of their arguments:\n{found}"
    );
}

fn is_exception(file: &str, pattern: &str) -> bool {
    EXCEPTIONS
        .iter()
        .any(|(path, allowed, _)| *path == file && *allowed == pattern)
}

/// Below the binary, time and entropy come from one file per crate, so that a test can take their place.
#[test]
fn the_shells_read_time_and_entropy_in_their_clock_files_only() {
    const READS: [&str; 7] = [
        "Instant::now",
        ".elapsed",
        "SystemTime::now",
        "OffsetDateTime::now_utc",
        "getrandom::fill",
        "OsRng",
        "from_os_rng",
    ];
    let mut found = String::new();
    for folder in ["crates/node/src", "crates/server/src", "crates/store/src"] {
        let files = sources(folder)
            .into_iter()
            .filter(|(file, _)| !file.ends_with("/clock.rs"));
        for (file, mentions) in files {
            for mention in mentions {
                for pattern in READS.iter().filter(|pattern| mention.matches(pattern)) {
                    writeln!(found, "{file}:{} names `{pattern}`", mention.line).expect("text");
                }
            }
        }
    }
    assert!(
        found.is_empty(),
        "time and entropy are read in clock.rs, and handed down:\n{found}"
    );
}

#[test]
fn every_exception_is_still_needed() {
    for (path, pattern, why) in EXCEPTIONS {
        let text = fs::read_to_string(root().join(path)).expect("the file of an exception exists");
        let used = source::mentions(&text).iter().any(|mention| mention.matches(pattern));
        assert!(used, "{path} no longer names `{pattern}` ({why}): remove the exception");
    }
}

#[test]
fn crates_depend_on_each_other_in_one_direction_only() {
    let ours: Vec<String> = ARROWS.iter().map(|(folder, _)| manifest(folder).name).collect();
    let mut found = String::new();
    for (folder, allowed) in ARROWS {
        let manifest = manifest(folder);
        let wrong = manifest
            .dependencies
            .iter()
            .filter(|name| ours.contains(name) && !allowed.contains(&name.as_str()));
        for name in wrong {
            writeln!(found, "{} must not depend on {name}", manifest.name).expect("text");
        }
        if PURE.contains(&folder) {
            let all = manifest.dependencies.iter().chain(&manifest.dev_dependencies);
            for name in all.filter(|name| IMPURE_PACKAGES.contains(&name.as_str())) {
                writeln!(found, "{} is pure and must not depend on {name}", manifest.name).expect("text");
            }
        }
    }
    assert!(found.is_empty(), "{found}");
    let folders = fs::read_dir(root().join("crates")).expect("crates").count();
    assert_eq!(folders, ARROWS.len(), "a new crate needs its line in ARROWS");
}

#[test]
fn boringtun_and_smoltcp_stay_in_their_homes() {
    for (package, most, homes) in HOMES {
        let mut named = Vec::new();
        for (folder, _) in ARROWS {
            let files = sources(&format!("{folder}/src"));
            let naming = |(_, mentions): &(String, Vec<source::Mention>)| mentions.iter().any(|m| m.matches(package));
            named.extend(files.into_iter().filter(naming).map(|(file, _)| file));
        }
        let stray: Vec<&String> = named
            .iter()
            .filter(|file| !homes.iter().any(|home| file.starts_with(home)))
            .collect();
        assert!(stray.is_empty(), "{package} is named outside {homes:?}: {stray:?}");
        assert!(
            named.len() <= most,
            "{package} may be named in {most} files, not in {named:?}"
        );
    }
}

/// Functions are held to 60 by clippy's `too_many_lines`.
#[test]
fn no_file_is_longer_than_500_lines() {
    const MOST: usize = 500;
    let (mut found, mut scanned) = (String::new(), 0);
    for folder in ["crates", "examples", "tests"] {
        for path in source::all_files(&root().join(folder)).expect("the folder can be read") {
            scanned += 1;
            let lines = fs::read_to_string(&path)
                .expect("a source file is text")
                .lines()
                .count();
            if lines > MOST {
                writeln!(found, "{} has {lines} lines", path.display()).expect("text");
            }
        }
    }
    assert!(scanned > 300, "only {scanned} files were scanned");
    assert!(
        found.is_empty(),
        "split by subject what is longer than {MOST} lines:\n{found}"
    );
}

#[test]
fn one_version_of_x25519_dalek() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("Cargo.lock");
    assert_eq!(
        lock.matches("name = \"x25519-dalek\"").count(),
        1,
        "keys must be of one type everywhere"
    );
}

fn manifest(folder: &str) -> Manifest {
    Manifest::read(&root().join(folder)).expect("a crate has a manifest")
}

/// The files under a folder of the repository, by their path from its top, with what each names.
fn sources(folder: &str) -> Vec<(String, Vec<source::Mention>)> {
    let root = root();
    let files = source::files(&root.join(folder)).expect("the folder can be read");
    let read = |path: &Path| source::mentions(&fs::read_to_string(path).expect("a source file is text"));
    let name = |path: &Path| path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
    files.iter().map(|path| (name(path), read(path))).collect()
}
