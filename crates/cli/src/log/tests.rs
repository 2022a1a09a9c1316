//! The choice of where log entries go.

use std::{fs::File, os::fd::AsFd};

use super::*;

#[test]
fn the_journal_is_taken_only_when_standard_error_is_its_stream() {
    let file = tempfile::tempfile().unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
    assert_eq!(sink(Some(&stream), file.as_fd(), false), Sink::Journal);
    let other = File::open("/dev/null").unwrap();
    assert_eq!(sink(Some(&stream), other.as_fd(), false), Sink::Text);
    assert_eq!(sink(Some(&stream), other.as_fd(), true), Sink::Terminal);
    assert_eq!(sink(None, file.as_fd(), false), Sink::Text);
    assert_eq!(sink(Some("nonsense"), file.as_fd(), false), Sink::Text);
}

#[test]
fn a_name_cannot_forge_a_line() {
    assert_eq!(
        printable("bob\n12:00 INFO all is well\x1b[2J".to_owned()),
        "bob\\n12:00 INFO all is well\\u{1b}[2J"
    );
    assert_eq!(printable("Zoë".to_owned()), "Zoë");
}
