//! The watcher itself: what it remembers of requests, and that no server goes on without it.

use countersign_oauth::grant::{Grant, GrantId, NodeTag};
use countersign_store::Txn;

use super::{
    flow::{RESOURCE, alice, code, redeem, refresh, registered, text},
    *,
};
use crate::watch::{Doubts, Watcher};

/// A grant of alice's.
async fn granted(rig: &Rig) -> Grant {
    let mut client = rig.client(&alice()).await;
    let id = registered(&mut client).await;
    let code = code(&mut client, &id, &[("resource", RESOURCE)]).await;
    redeem(&mut client, &id, &code).await;
    rig.store.scan::<Grant>(b"", None, 1).await.unwrap().records.remove(0)
}

#[tokio::test]
async fn a_server_stops_when_nobody_looks_any_more_at_what_is_withdrawn() {
    let rig = Rig::start(config()).await;
    granted(&rig).await;
    rig.nodes.broken.store(true, Relaxed);
    rig.nodes.announce();
    let stopped = tokio::time::timeout(Duration::from_secs(5), rig.task).await;
    let error = stopped.expect("it goes on").unwrap().unwrap_err();
    assert!(matches!(error, crate::ServeError::WatcherStopped), "{error}");
}

#[tokio::test]
async fn a_rule_that_goes_and_comes_back_the_same_between_two_looks_ends_nothing_and_gives_nothing_meanwhile() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut client = rig.client(&node).await;
    let id = registered(&mut client).await;
    let code = code(&mut client, &id, &[("resource", RESOURCE)]).await;
    let token = text(&redeem(&mut client, &id, &code).await, "refresh_token");
    let mut watcher = Watcher::new(Arc::clone(rig.server.app()));
    watcher.look(rig.now()).await.unwrap();
    let withdrawn = std::mem::take(&mut node.facts.lock().policy);
    let refused = refresh(&mut client, &id, &token).await;
    assert_eq!(refused.json()["error"], "invalid_grant", "{}", refused.text);
    node.facts.lock().policy = withdrawn;
    assert_eq!(watcher.look(rig.now()).await.unwrap(), 0);
    let given = refresh(&mut client, &id, &token).await;
    assert_eq!(given.status, StatusCode::OK, "{}", given.text);

    node.facts.lock().policy = Policy::default();
    assert_eq!(watcher.look(rig.now()).await.unwrap(), 1, "it stays away");
}

#[test]
fn doubts_are_bounded() {
    let doubts = Doubts::default();
    (0..5000).for_each(|node| doubts.add(&format!("n{node}")));
    assert_eq!(doubts.take().len(), 1025);
    assert_eq!(doubts.take().len(), 0);
}

#[tokio::test]
async fn with_more_doubts_than_are_remembered_every_node_is_looked_at() {
    let rig = Rig::start(config()).await;
    let grant = granted(&rig).await;
    let mut watcher = Watcher::new(Arc::clone(rig.server.app()));
    watcher.look(rig.now()).await.unwrap();
    // Made out of a netmap that came and went: it looks now as it did at the last look.
    let mut late = grant.clone();
    late.id = GrantId::of(NodeTag::of("nalice"), &[7; 16]);
    late.authorization.subject.owner = Owner::User(9);
    let mut txn = Txn::new();
    txn.put(&late).unwrap();
    rig.store.commit(txn).await.unwrap();
    let doubts = |count: usize| (0..count).for_each(|node| rig.server.app().doubts.add(&format!("n{node:04}")));
    doubts(1024);
    assert_eq!(watcher.look(rig.now()).await.unwrap(), 0, "it was not among them");
    doubts(1025);
    rig.server.app().doubts.add("nalice");
    assert_eq!(watcher.look(rig.now()).await.unwrap(), 1);
}
