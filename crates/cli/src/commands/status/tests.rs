//! The exit codes of `status`, with and without waiting.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use super::*;
use crate::{
    args::Location,
    socket::StatusSocket,
    status::{State, StatusSource, tests::sample},
};

/// Becomes ready at the n-th question.
struct ReadyAt {
    question: usize,
    asked: AtomicUsize,
}

impl ReadyAt {
    fn question(question: usize) -> Arc<Self> {
        Arc::new(Self {
            question,
            asked: AtomicUsize::new(0),
        })
    }
}

impl StatusSource for ReadyAt {
    fn status(&self) -> StatusReport {
        let ready = self.asked.fetch_add(1, Ordering::Relaxed) >= self.question;
        let state = if ready { State::Serving } else { State::Joining };
        StatusReport {
            ready,
            state,
            ..sample()
        }
    }
    fn root_certificate(&self) -> Result<String, String> {
        Err(String::new())
    }
}

fn args(wait: Option<u32>) -> StatusArgs {
    StatusArgs {
        json: true,
        wait,
        location: Location::default(),
    }
}

#[tokio::test]
async fn not_running_is_4() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(&args(None), folder.path()).await as u8, 4);
    assert_eq!(run(&args(None), &folder.path().join("missing")).await as u8, 4);
    let before = Instant::now();
    assert_eq!(run(&args(Some(1)), folder.path()).await as u8, 4);
    assert!(before.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn running_but_not_ready_is_3() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), ReadyAt::question(usize::MAX))
        .await
        .unwrap();
    assert_eq!(run(&args(None), folder.path()).await as u8, 3);
    assert_eq!(run(&args(Some(1)), folder.path()).await as u8, 3);
}

#[tokio::test]
async fn ready_is_0() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), ReadyAt::question(0)).await.unwrap();
    assert_eq!(run(&args(None), folder.path()).await as u8, 0);
}

#[tokio::test]
async fn waiting_ends_when_it_becomes_ready() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), ReadyAt::question(4)).await.unwrap();
    let before = Instant::now();
    assert_eq!(run(&args(Some(60)), folder.path()).await as u8, 0);
    assert!(before.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn waiting_includes_a_server_that_has_not_started_yet() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("later");
    let waiting = tokio::spawn({
        let state_dir = state_dir.clone();
        async move { run(&args(Some(60)), &state_dir).await }
    });
    tokio::time::sleep(PAUSE * 2).await;
    std::fs::create_dir(&state_dir).unwrap();
    let _socket = StatusSocket::open(&state_dir, ReadyAt::question(2)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Exit::Done);
}
