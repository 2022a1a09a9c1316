//! `docs/ARCHITECTURE.md` lists every source file with what it is for, in the file's own words.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{fmt::Write, fs, path::Path};

use countersign_purity::root;

const BEGIN: &str = "<!-- files -->\n";
const END: &str = "<!-- /files -->";

#[test]
fn architecture_lists_every_file() {
    let page = root().join("docs/ARCHITECTURE.md");
    let text = fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("the page has a place for the list");
    let (listed, after) = rest.split_once(END).expect("the list has an end");
    let found = list();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&page, format!("{before}{BEGIN}{found}{END}{after}")).unwrap();
        return;
    }
    for (listed, found) in listed.lines().zip(found.lines()) {
        assert_eq!(
            listed, found,
            "docs/ARCHITECTURE.md is behind: run this test with UPDATE=1"
        );
    }
    assert_eq!(
        listed.lines().count(),
        found.lines().count(),
        "docs/ARCHITECTURE.md is behind: run this test with UPDATE=1"
    );
}

/// A table per crate, in the order of the arrows.
fn list() -> String {
    let mut out = String::new();
    for name in ["wire", "engine", "node", "oauth", "store", "server", "cli", "testkit"] {
        let source = root().join("crates").join(name).join("src");
        let mut files = Vec::new();
        collect(&source, &source, &mut files);
        files.sort();
        write!(out, "\n### crates/{name}/src\n\n| file | what it owns |\n|---|---|\n").unwrap();
        for (path, story) in files {
            assert!(!story.is_empty(), "crates/{name}/src/{path} opens without a story");
            writeln!(out, "| `{path}` | {story} |").unwrap();
        }
    }
    out.push('\n');
    out
}

/// Every file under `folder` that is not test code, by its path below `base`, with the first sentence of its story.
fn collect(base: &Path, folder: &Path, files: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        if stem.starts_with("tests") {
            continue;
        }
        if path.is_dir() {
            collect(base, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(base).unwrap().to_string_lossy().into_owned();
            files.push((name, first_sentence(&fs::read_to_string(&path).unwrap())));
        }
    }
}

fn first_sentence(source: &str) -> String {
    let story: Vec<&str> = source
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let story = story.join(" ");
    let end = story.find(". ").map_or(story.len(), |at| at + 1);
    story[..end].replace('|', "\\|")
}
