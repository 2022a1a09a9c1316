//! The socket between a running server and those who ask it.

use std::os::unix::fs::MetadataExt;

use super::{
    client::{AskError, ask},
    *,
};
use crate::status::tests::sample;

/// A server whose answers are fixed.
pub(crate) struct Fixed(pub(crate) StatusReport);

impl StatusSource for Fixed {
    fn status(&self) -> StatusReport {
        self.0.clone()
    }
    fn root_certificate(&self) -> Result<String, String> {
        Err("tls is off: there is no root".to_owned())
    }
}

#[tokio::test]
async fn answers_come_back_whole() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    assert_eq!(
        ask(folder.path(), Question::Status).await.unwrap(),
        Answer::Status(Box::new(sample()))
    );
    let error = Answer::Error("tls is off: there is no root".to_owned());
    assert_eq!(ask(folder.path(), Question::Ca).await.unwrap(), error);
}

#[tokio::test]
async fn only_the_owner_may_ask() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    assert_eq!(fs::metadata(folder.path().join(NAME)).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_second_server_is_told_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let first = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    let error = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("in use by another countersign (pid 42)"),
        "{error}"
    );
    drop(first);
    StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_socket_left_by_a_killed_server_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    drop(std::os::unix::net::UnixListener::bind(folder.path().join(NAME)).unwrap());
    assert!(matches!(
        ask(folder.path(), Question::Status).await,
        Err(AskError::NotRunning(_))
    ));
    let _socket = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    assert!(ask(folder.path(), Question::Status).await.is_ok());
}

#[tokio::test]
async fn a_long_state_folder_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("x".repeat(120));
    fs::create_dir(&deep).unwrap();
    let socket = StatusSocket::open(&deep, Arc::new(Fixed(sample()))).await.unwrap();
    assert!(ask(&deep, Question::Status).await.is_ok());
    drop(socket);
    assert!(!deep.join(NAME).exists());
}

#[tokio::test]
async fn nonsense_is_answered_and_does_not_stop_the_socket() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    for nonsense in [&b"\n"[..], b"{}\n", &[0xff; 5000], b""] {
        let mut stream = UnixStream::connect(folder.path().join(NAME)).await.unwrap();
        // The server may have answered and closed before it was all written.
        let _ = stream.write_all(nonsense).await;
        let _ = stream.shutdown().await;
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer).await;
    }
    assert!(ask(folder.path(), Question::Status).await.is_ok());
}

#[tokio::test]
async fn idle_askers_do_not_keep_others_out_for_long() {
    let folder = tempfile::tempdir().unwrap();
    let _socket = StatusSocket::open(folder.path(), Arc::new(Fixed(sample())))
        .await
        .unwrap();
    let mut idle = Vec::new();
    for _ in 0..MAX_ASKERS - 1 {
        idle.push(UnixStream::connect(folder.path().join(NAME)).await.unwrap());
    }
    assert!(ask(folder.path(), Question::Status).await.is_ok());
}
