//! What a look that knows too little leaves alone, and what the next one makes up for.

use super::*;

#[tokio::test]
async fn what_the_netmap_does_not_withdraw_stays() {
    let rig = Rig::start(config()).await;
    let (alice_node, bob_node) = (alice(), bob());
    let (mut alice, mut bob) = (rig.client(&alice_node).await, rig.client(&bob_node).await);
    let (of_alice, of_bob) = (registered(&mut alice).await, registered(&mut bob).await);
    let hers = given(&mut alice, &of_alice).await;
    let old = |node: &Node| node.facts.lock().netmap_age = Duration::from_secs(90_000);
    let fresh = |node: &Node| node.facts.lock().netmap_age = Duration::ZERO;

    // Nobody to ask, a netmap that is too old, a policy that cannot be read. Bob's loss shows that a look has happened.
    for round in 0..3 {
        given(&mut bob, &of_bob).await;
        match round {
            0 => {
                rig.nodes.joined.store(false, Relaxed);
                rig.nodes.announce();
                tokio::time::sleep(Duration::from_millis(50)).await;
                assert_eq!(open(&rig).await, (2, 2));
                rig.nodes.joined.store(true, Relaxed);
            }
            1 => {
                old(&alice_node);
                alice_node.facts.lock().policy = Policy::default();
            }
            _ => alice_node.facts.lock().policy = Policy::parse([ALL, r#"{"deny":true}"#]),
        }
        bob_node.facts.lock().policy = Policy::default();
        rig.nodes.announce();
        becomes(&rig, (1, 1)).await;
        fresh(&alice_node);
        for node in [&alice_node, &bob_node] {
            node.facts.lock().policy = Policy::parse([ALL]);
        }
        rig.nodes.announce();
    }
    hers.is_good(&mut alice).await;
}

#[tokio::test]
async fn what_an_old_netmap_could_not_decide_is_decided_by_the_next() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    given(&mut alice, &id).await;
    node.facts.lock().netmap_age = Duration::from_secs(90_000);
    node.facts.lock().policy = Policy::default();
    rig.nodes.announce();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(open(&rig).await, (1, 1));
    node.facts.lock().netmap_age = Duration::ZERO;
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
}

#[tokio::test]
async fn what_changed_while_the_server_was_down_has_ended_before_it_answers() {
    let store = Store::in_memory().unwrap();
    let nodes = Nodes::new();
    let node = alice();
    let rig = Rig::with(config(), store.clone(), nodes.clone()).await;
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let held = given(&mut alice, &id).await;
    drop(alice);
    rig.stop.cancel();
    rig.task.await.unwrap().unwrap();

    node.facts.lock().policy = Policy::default();
    let rig = Rig::with(config(), store, nodes).await;
    let mut alice = rig.client(&node).await;
    assert_eq!(alice.get("/").await.status, StatusCode::OK);
    assert_eq!(open(&rig).await, (0, 0));
    node.facts.lock().policy = Policy::parse([ALL]);
    held.is_over(&mut alice).await;
}
