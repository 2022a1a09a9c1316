use countersign_oauth::secret::SecretHash;
use time::OffsetDateTime;

use super::*;
use crate::{Store, Txn};

fn session(owner: Owner, node_id: &str, id: &str) -> Session {
    Session {
        hash: SecretHash::of(id),
        subject: Subject {
            node_id: node_id.into(),
            owner,
            label: "somebody".into(),
        },
        node_name: id.into(),
        auth_time: OffsetDateTime::UNIX_EPOCH,
        expires_at: OffsetDateTime::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_prefix_finds_what_a_person_has_and_what_he_has_on_one_node() {
    let store = Store::in_memory().unwrap();
    let mut txn = Txn::new();
    for (owner, node, id) in [
        (Owner::User(1), "n1", "a"),
        (Owner::User(1), "n2", "b"),
        (Owner::User(11), "n1", "c"),
        (Owner::Node("n1".into()), "n1", "d"),
        (Owner::User(1), "n12", "e"),
    ] {
        txn.put(&session(owner, node, id)).unwrap();
    }
    store.commit(txn).await.unwrap();
    let ids = async |prefix: Vec<u8>| {
        let page = store.scan::<Session>(&prefix, None, 10).await.unwrap();
        page.records.into_iter().map(|held| held.node_name).collect::<String>()
    };
    assert_eq!(ids(held_by(&Owner::User(1), None)).await, "aeb");
    assert_eq!(ids(held_by(&Owner::User(1), Some("n1"))).await, "a");
    assert_eq!(ids(held_by(&Owner::Node("n1".into()), None)).await, "d");
    assert_eq!(ids(held_by(&Owner::User(2), None)).await, "");
}
