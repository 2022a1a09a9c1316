//! The parts of `serve` that need no tailnet. The whole of it is held to its promises in `tests/flow`.

use std::os::unix::fs::MetadataExt;

use countersign_server::issuer::IssuerError;

use super::*;

#[test]
fn the_state_folder_is_made_for_this_user_alone() {
    let folder = tempfile::tempdir().unwrap();
    let state_dir = folder.path().join("deep/state");
    make_state_dir(&state_dir).unwrap();
    assert_eq!(fs::metadata(&state_dir).unwrap().mode() & 0o777, 0o700);
    make_state_dir(&state_dir).unwrap();
}

#[test]
fn a_state_folder_that_is_no_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = make_state_dir(&file).unwrap_err();
    assert!(error.to_string().contains(&file.display().to_string()), "{error}");
    assert_eq!(error.exit(), Exit::Failed);
}

#[test]
fn a_supervisor_knows_by_the_exit_code_whether_to_try_again() {
    let renamed = IssuerError::NodeRenamed {
        stored: "https://a".to_owned(),
        derived: "https://b".to_owned(),
    };
    assert_eq!(ServeError::from(renamed).exit(), Exit::Refused);
    assert_eq!(ServeError::from(IssuerError::Raced).exit(), Exit::Failed);
    assert_eq!(ServeError::Left("gone".to_owned()).exit(), Exit::Failed);
    assert_eq!(ServeError::Panicked("the server task").exit(), Exit::Bug);
    assert_eq!(ServeError::from(tailnet_node::StartError::Panicked).exit(), Exit::Bug);
    let in_use = tailnet_node::ListenError::InUse(443);
    assert_eq!(ServeError::from(in_use).exit(), Exit::Usage);
}
