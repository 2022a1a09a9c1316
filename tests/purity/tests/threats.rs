//! `docs/security-tests.md` names tests that exist, and every test of the threats is named there.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, fs};

use countersign_purity::{root, source};

const PAGE: &str = "docs/security-tests.md";
const THREATS: &str = "crates/server/src/tests/threats";

/// A test and the file that has it.
type Named = (String, String);

#[test]
fn every_test_that_the_table_names_exists() {
    let named = named();
    assert!(named.len() > 40, "only {} tests were found in {PAGE}", named.len());
    let missing: Vec<&Named> = named
        .iter()
        .filter(|(file, test)| !tests_of(file).contains(test))
        .collect();
    assert!(missing.is_empty(), "{PAGE} names what is not there: {missing:#?}");
}

#[test]
fn every_threat_has_a_test_or_a_reason_to_wait() {
    let idle: Vec<String> = rows()
        .into_iter()
        .filter(|row| !row.contains(".rs`: `") && !row.contains("| later: "))
        .collect();
    assert!(idle.is_empty(), "neither a test nor \"later: why\": {idle:#?}");
}

#[test]
fn every_test_of_the_threats_is_in_the_table() {
    let named = named();
    let mut absent = Vec::new();
    for path in source::files(&root().join(THREATS)).expect("the folder of the threats") {
        let file = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        let unnamed = tests_of(&file).into_iter().map(|test| (file.clone(), test));
        absent.extend(unnamed.filter(|test| !named.contains(test)));
    }
    assert!(absent.is_empty(), "{PAGE} does not name {absent:#?}");
}

/// The lines of the table, without its head.
fn rows() -> Vec<String> {
    let text = fs::read_to_string(root().join(PAGE)).expect("the page exists");
    let lines = text.lines().filter(|line| line.starts_with("| "));
    lines.skip(1).map(str::to_owned).collect()
}

/// What stands in backticks: a path, then the names of its tests.
fn named() -> BTreeSet<Named> {
    let mut all = BTreeSet::new();
    for row in rows() {
        let tests = row.split('|').nth(2).expect("two columns").to_owned();
        let mut file = None;
        for (index, word) in tests.split('`').enumerate() {
            match (index % 2, word.ends_with(".rs")) {
                (0, _) => {}
                (_, true) => file = Some(word.to_owned()),
                // Before any path: a word of a sentence.
                (_, false) => all.extend(file.clone().map(|file| (file, word.to_owned()))),
            }
        }
    }
    all
}

/// The names of the functions that a file marks as tests.
fn tests_of(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(file)).unwrap_or_default();
    let mut found = BTreeSet::new();
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[test]") || line.starts_with("#[tokio::test") {
            marked = true;
        } else if let Some((before, after)) = line.split_once("fn ").filter(|_| marked) {
            if before.is_empty() || before == "async " {
                found.extend(after.split('(').next().map(str::to_owned));
            }
            marked = false;
        }
    }
    found
}
