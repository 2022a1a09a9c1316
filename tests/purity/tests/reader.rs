//! The reader sees what it must see and nothing else.

#![allow(clippy::unwrap_used, reason = "a test may stop where it stands")]

use countersign_purity::{manifest::Manifest, source::mentions};

fn sees(text: &str, pattern: &str) -> bool {
    mentions(text).iter().any(|mention| mention.matches(pattern))
}

#[test]
fn paths_and_methods_are_seen() {
    assert!(sees("let t = std::time::Instant::now();", "Instant::now"));
    assert!(sees("let f: fn() -> Instant = Instant::now;", "Instant::now"));
    assert!(sees("if start.elapsed() > limit {}", ".elapsed"));
    assert!(!sees("let elapsed = now - start; use_it(elapsed)", ".elapsed"));
    assert!(sees("let x: tokio::net::TcpStream;", "tokio"));
    assert!(sees("f(b'\\'', '\"', std::fs::read(p))", "std::fs"));
}

#[test]
fn use_trees_are_spread() {
    let text = "use std::{collections::{BTreeMap, HashMap as Map}, fs::{self, File}, net::IpAddr};\nfn f() {}";
    assert!(sees(text, "std::fs"));
    assert!(sees(text, "std::fs::File"));
    assert!(sees(text, "std::net::IpAddr"));
    assert!(!sees(text, "net::File") && !sees(text, "std::net::TcpStream"));
}

#[test]
fn comments_literals_and_tests_are_not_code() {
    assert!(!sees(
        "// Instant::now\n/* std::fs */ fn f() { let s = \"tokio::net\"; }",
        "tokio"
    ));
    assert!(!sees("/// Calls `Instant::now`.\nfn f() {}", "Instant::now"));
    assert!(!sees(
        "let s = r#\"std::fs \" std::fs\"#; let t = b\"a\\\"std::fs\";",
        "std::fs"
    ));
    assert!(!sees(
        "#[cfg(test)]\nmod tests { fn f() { Instant::now() } }",
        "Instant::now"
    ));
    assert!(sees(
        "#[cfg(test)]\nmod tests;\nfn f() { Instant::now() }",
        "Instant::now"
    ));
    assert!(!sees("fn f<'a>(x: &'a str) { my_std::fs }", "std::fs"));
}

#[test]
fn lines_are_counted() {
    let text = "// one\n\"two\nthree\"; tokio::spawn(x)";
    let found: Vec<usize> = mentions(text)
        .iter()
        .filter(|m| m.matches("tokio"))
        .map(|m| m.line)
        .collect();
    assert_eq!(found, [3]);
}

#[test]
fn manifests_are_read() {
    let text = "[package]\nname = \"a\"\n[dependencies]\nb = \"1\"\nc.workspace = true\nd = { package = \"e\" }\n\
                [target.'cfg(unix)'.dependencies]\nf = \"1\"\n[dev-dependencies]\ng = \"1\"";
    let manifest = Manifest::parse(text).unwrap();
    assert_eq!(manifest.dependencies, ["b", "c", "e", "f"].map(str::to_owned).into());
    assert_eq!(manifest.dev_dependencies, ["g".to_owned()].into());
}
