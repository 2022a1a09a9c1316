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
        "WWW-Authenticate: Bearer",
        "http://echo.tailnet.test/.well-known/oauth-protected-resource",
        "Answer goes to",
        "an app on this computer",
        "clicks \"Continue as alice@example.com\"",
        "bob redeems it from his node           400, invalid_grant",
        "aud    http://echo.tailnet.test",
        r#"cnf    {"tailnet_node":"#,
        "200, \"alice@example.com\"",
        "bob calls echo with alice's token      401, invalid_token",
        "bob tries her refresh token            400, invalid_grant",
        "the app refreshes from alice's node    200",
        "loses echo: her refresh is refused",
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
    assert_eq!(steps.count(), 28);
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "no line is too long for a terminal:\n{text}"
    );
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
    let application = lines
        .find_map(|line| line.ok()?.trim().strip_prefix("http://127.0.0.1:").map(str::to_owned))
        .unwrap();
    the_application_sends_a_browser_to_the_server(application.trim_end_matches('/').parse().unwrap());
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

fn the_application_sends_a_browser_to_the_server(port: u16) {
    let ask = |path: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert!(ask("/").contains("href=\"/start\""));
    let start = ask("/start");
    let back = format!("redirect_uri=http%3A%2F%2F127.0.0.1%3A{port}%2Fcallback");
    for part in ["303 See Other", "location: https://idp.tailnet.test/authorize?", &back] {
        assert!(start.contains(part), "{part} is missing: {start}");
    }
    assert!(ask("/callback?code=x&state=forged").contains("400 Bad Request"));
}
