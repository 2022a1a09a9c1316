use super::*;

const URL: &str = "https://hs.test";

fn open(dir: &Path) -> Result<State, StateError> {
    State::open(dir, URL)
}

fn refuse(dir: &Path) -> String {
    open(dir).unwrap_err().to_string()
}

#[test]
fn everything_is_there_after_a_restart() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("a/b");
    let state = open(&dir).unwrap();
    let (machine, node) = (state.machine_key().public(), state.node_key().public());
    state.set_udp_port(41641).unwrap();
    state.set_stable_id("n1").unwrap();
    state
        .set_active_peers((0..40).map(|n| NodePublic::from_bytes([n; 32])))
        .unwrap();
    drop(state);
    let state = open(&dir).unwrap();
    assert_eq!(
        (state.machine_key().public(), state.node_key().public()),
        (machine, node)
    );
    assert_eq!(
        (state.udp_port(), state.stable_id().as_deref()),
        (Some(41641), Some("n1"))
    );
    assert_eq!(state.active_peers().len(), MAX_ACTIVE);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&dir), mode(&dir.join(FILE))), (0o700, 0o600));
}

#[test]
fn a_new_node_key_keeps_the_old_one_in_mind_until_it_is_confirmed() {
    let tmp = tempfile::tempdir().unwrap();
    let state = open(tmp.path()).unwrap();
    let old = state.node_key().public();
    let new = NodePrivate::from_random([7; 32]);
    state.replace_node_key(new.clone()).unwrap();
    drop(state);
    let state = open(tmp.path()).unwrap();
    assert_eq!(
        (state.node_key().public(), state.old_node_key()),
        (new.public(), Some(old))
    );
    state.confirm_node_key().unwrap();
    assert_eq!(state.old_node_key(), None);
}

#[test]
fn a_second_process_is_kept_out_and_told_who_is_in() {
    let tmp = tempfile::tempdir().unwrap();
    let state = open(tmp.path()).unwrap();
    // Locks belong to open files, so a second one in the same process is as good as another process.
    let text = refuse(tmp.path());
    assert!(
        text.contains(&format!("in use by process {}", std::process::id())),
        "{text}"
    );
    drop(state);
    open(tmp.path()).unwrap();
}

#[test]
fn a_file_that_is_cut_empty_or_something_else_is_refused_and_left_alone() {
    let tmp = tempfile::tempdir().unwrap();
    drop(open(tmp.path()).unwrap());
    let path = tmp.path().join(FILE);
    let whole = fs::read(&path).unwrap();
    for len in [0, 1, whole.len() / 2, whole.len() - 2] {
        fs::write(&path, &whole[..len]).unwrap();
        let text = refuse(tmp.path());
        assert!(text.contains("damaged") && text.contains("delete it"), "{text}");
        assert_eq!(fs::read(&path).unwrap(), whole[..len]);
    }
    let secret = "a".repeat(63);
    let broken = String::from_utf8(whole)
        .unwrap()
        .replacen("privkey:", &format!("privkey:{secret}x"), 1);
    fs::write(&path, broken).unwrap();
    let text = refuse(tmp.path());
    assert!(text.contains("damaged") && !text.contains(&secret), "{text}");
    fs::write(&path, r#"{"version": 2}"#).unwrap();
    assert!(refuse(tmp.path()).contains("newer program"));
}

#[test]
fn a_node_of_another_control_server_is_not_taken_over() {
    let tmp = tempfile::tempdir().unwrap();
    drop(open(tmp.path()).unwrap());
    let text = State::open(tmp.path(), "https://other.test").unwrap_err().to_string();
    assert!(
        text.contains("https://hs.test") && text.contains("https://other.test"),
        "{text}"
    );
}

#[test]
fn a_folder_that_cannot_be_written_is_told_at_once() {
    // Not a permission test: root may write anywhere. A file where the folder should be fails for everybody.
    let tmp = tempfile::tempdir().unwrap();
    let file = tmp.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file.join("state")), Err(StateError::Io { .. })));
    let source = io::Error::from(io::ErrorKind::ReadOnlyFilesystem);
    assert!(matches!(
        write_error(tmp.path(), "write", &file, source),
        StateError::ReadOnly { .. }
    ));
}

#[test]
fn debug_shows_no_private_key() {
    let tmp = tempfile::tempdir().unwrap();
    let state = open(tmp.path()).unwrap();
    let text = format!("{state:?}");
    assert!(!text.contains(&state.node_key().to_text()["privkey:".len()..]));
}

#[tokio::test]
async fn a_write_does_not_hold_the_runtime_up_and_is_durable_when_it_returns() {
    let folder = tempfile::tempdir().unwrap();
    let state = State::open(folder.path(), "https://hs.test/").unwrap();
    let (go, wait) = std::sync::mpsc::channel();
    let write = state.aside(move |state| {
        // Were this on the runtime's only thread, nobody could say the word.
        wait.recv_timeout(Duration::from_secs(5)).unwrap();
        state.set_udp_port(41_641)
    });
    let (written, ()) = tokio::join!(write, async move { go.send(()).unwrap() });
    written.unwrap();
    drop(state);
    let again = State::open(folder.path(), "https://hs.test/").unwrap();
    assert_eq!(again.udp_port(), Some(41_641));
}
