//! The demo as a newcomer runs it.
#![cfg(feature = "demo")]
#![allow(clippy::unwrap_used, reason = "tests and their helpers")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

fn demo(temporary: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    command
        .arg("demo")
        .env("TMPDIR", temporary)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

#[test]
fn once_tells_the_story_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let output = demo(temporary.path()).arg("--once").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let said = format!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(!text.contains('\x1b'), "no colour into a pipe:\n{text}");
    assert!(output.stderr.is_empty(), "nothing beside the transcript:\n{said}");
    for words in [
        "registers a client (RFC 7591)",
        "201",
        "403, access_denied",
        "connection reset",
        "all as expected",
    ] {
        assert!(text.contains(words), "{words:?} is missing:\n{text}");
    }
    let steps = text.lines().filter(|line| line.starts_with("   ✓"));
    assert!(
        steps
            .clone()
            .all(|line| line.ends_with(" ms") && line.chars().count() == 80),
        "columns:\n{text}"
    );
    assert_eq!(steps.count(), 14);
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
}

#[test]
fn a_step_that_fails_is_named_and_ends_it() {
    let output = demo(Path::new("/nonexistent")).arg("--once").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let failed = text.lines().find(|line| line.starts_with("   ✗")).unwrap();
    assert!(
        failed.contains("control server") && text.contains("/nonexistent"),
        "{text}"
    );
}

#[test]
fn it_stays_up_for_curl_until_it_is_told_to_end() {
    let temporary = tempfile::tempdir().unwrap();
    let mut child = demo(temporary.path()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let curl = lines
        .find_map(|line| line.ok().filter(|line| line.starts_with("curl ")))
        .unwrap();
    let words: Vec<&str> = curl.split_whitespace().collect();
    let after = |flag: &str| words[words.iter().position(|word| *word == flag).unwrap() + 1];
    assert!(
        std::fs::read_to_string(after("--cacert"))
            .unwrap()
            .starts_with("-----BEGIN CERTIFICATE")
    );

    let mut proxy = TcpStream::connect(after("--socks5-hostname")).unwrap();
    proxy.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    proxy
        .write_all(b"\x05\x01\x00\x05\x01\x00\x03\x10idp.tailnet.test\x01\xbb")
        .unwrap();
    let mut reply = [0; 12];
    proxy.read_exact(&mut reply).unwrap();
    assert_eq!(
        reply[..4],
        [5, 0, 5, 0],
        "the proxy must reach the server by its MagicDNS name"
    );

    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let rest: Vec<String> = lines.map_while(Result::ok).collect();
    let status = child.wait().unwrap();
    assert!(status.success(), "{status}\n{}", rest.join("\n"));
    assert_eq!(
        temporary.path().read_dir().unwrap().count(),
        0,
        "the folder goes with the process"
    );
}
