//! What one look reads and writes, however much there is and whatever happens meanwhile.

use countersign_oauth::{
    grant::{GrantId, NodeTag},
    remembered::Remembered,
    subject::Subject,
};
use countersign_store::Txn;

use super::*;

/// A watcher of a test's own, whose looks it can see.
fn watcher(rig: &Rig) -> crate::watch::Watcher {
    crate::watch::Watcher::new(Arc::clone(rig.server.app()))
}

#[tokio::test]
async fn however_much_rests_on_one_node_others_are_served_during_a_look() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    redeem(&mut alice, &id, &code).await;
    let like = stored::<Grant>(&rig).await.remove(0);
    let mut txn = Txn::new();
    for handle in 0..1000_u128 {
        let id = GrantId::of(NodeTag::of("nalice"), &handle.to_be_bytes());
        txn.put(&Grant { id, ..like.clone() }).unwrap();
    }
    rig.store.commit(txn).await.unwrap();
    let turns = Arc::new(AtomicI64::new(0));
    let others = Arc::clone(&turns);
    let serving = tokio::spawn(async move {
        loop {
            others.fetch_add(1, Relaxed);
            tokio::task::yield_now().await;
        }
    });
    tokio::task::yield_now().await;
    let before = turns.load(Relaxed);
    assert_eq!(watcher(&rig).look(rig.now()).await.unwrap(), 0);
    assert!(turns.load(Relaxed) >= before + 10);
    serving.abort();
}

#[tokio::test]
async fn a_consent_that_is_given_again_during_a_look_is_found_by_the_next() {
    let rig = Rig::start(config()).await;
    let alice = alice();
    rig.nodes.add(&alice);
    let consent = {
        let alice = alice.facts.lock();
        Remembered {
            subject: Subject::of(&alice),
            node_name: alice.node_name.clone(),
            client: countersign_oauth::client::ClientId::from_request("client"),
            redirect_uri: "https://app.example/callback".into(),
            scopes: Vec::new(),
            resources: Vec::new(),
            published_by: None,
            publication: None,
            since: rig.now(),
            expires_at: rig.now(),
        }
    };
    let mut over = Txn::new();
    over.put(&consent).unwrap();
    rig.store.commit(over).await.unwrap();
    let mut again = Txn::new();
    again
        .put(&Remembered {
            expires_at: rig.now() + Duration::from_secs(3600),
            ..consent
        })
        .unwrap();
    // The look has found the one that is over when the new one is written.
    let mut watcher = watcher(&rig);
    let (looked, given) = tokio::join!(watcher.look(rig.now()), rig.store.commit(again));
    looked.unwrap();
    given.unwrap();
    assert_eq!(rig.store.resting_on("nalice", None, 10).await.unwrap().len(), 1);
}

/// What is over is found at the node that redeemed it until the sweep comes by, and each look forgets what it finds.
#[tokio::test]
async fn a_look_at_more_of_what_is_over_than_one_write_holds_ends_what_it_has_to() {
    let rig = Rig::start(config()).await;
    let alice_node = alice();
    let mut alice = rig.client(&alice_node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    redeem(&mut alice, &id, &code).await;
    let like = stored::<Grant>(&rig).await.remove(0);
    // A long name makes long entries.
    let server = Node::user(7, &"app".repeat(400), &[]);
    let server_id = server.facts.lock().node_id.clone();
    rig.nodes.add(&server);
    for chunk in (0..4000_u128).collect::<Vec<_>>().chunks(200) {
        let mut txn = Txn::new();
        for handle in chunk {
            let over = Grant {
                id: GrantId::of(NodeTag::of("nalice"), &handle.to_be_bytes()),
                node_id: server_id.clone(),
                expires_at: rig.now(),
                ..like.clone()
            };
            txn.put(&over).unwrap();
        }
        rig.store.commit(txn).await.unwrap();
    }
    alice_node.facts.lock().policy = Policy::default();
    assert_eq!(watcher(&rig).look(rig.now()).await.unwrap(), 1);
    assert!(rig.store.resting_on(&server_id, None, 1).await.unwrap().is_empty());
}
