use countersign_oauth::{
    grant::{GrantId, NodeTag},
    secret::SecretHash,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::{OpenOptions, Record};

/// Something that rests on nodes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Thing {
    id: String,
    nodes: Vec<String>,
    over: bool,
}

impl Record for Thing {
    const TABLE: &'static str = "thing";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn resting(&self) -> Option<Resting<'_>> {
        Some(Resting {
            kind: DueKind::Session,
            live: !self.over,
            on: self.nodes.iter().map(String::as_str).collect(),
        })
    }
}

fn thing(id: &str, nodes: &[&str]) -> Thing {
    Thing {
        id: id.into(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        over: false,
    }
}

/// A store of each kind, with the folder of the one that has one.
fn stores() -> Vec<(Store, Option<TempDir>)> {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 4 << 20,
        entropy: [7; 16],
    };
    let sled = Store::open(&options).unwrap();
    vec![(Store::in_memory().unwrap(), None), (sled, Some(folder))]
}

async fn commit(store: &Store, change: impl FnOnce(&mut Txn)) {
    let mut txn = Txn::new();
    change(&mut txn);
    store.commit(txn).await.unwrap();
}

async fn on(store: &Store, node: &str) -> Vec<String> {
    let found = store.resting_on(node, None, 100).await.unwrap();
    found.into_iter().map(|found| found.id).collect()
}

async fn nodes(store: &Store) -> Vec<String> {
    let (mut nodes, mut last) = (Vec::new(), None);
    while let Some(next) = store.next_anchored(last.as_ref()).await.unwrap() {
        nodes.push(next.node.clone());
        last = Some(next);
    }
    nodes
}

#[tokio::test]
async fn records_are_found_by_what_they_rest_on_as_long_as_they_are_live() {
    for (store, _folder) in stores() {
        let shared = thing("3", &["n1", "n2"]);
        commit(&store, |txn| {
            for thing in [&thing("1", &["n1"]), &thing("2", &["n10"]), &shared] {
                txn.put(thing).unwrap();
            }
        })
        .await;
        assert_eq!(on(&store, "n1").await, ["1", "3"]);
        assert_eq!(on(&store, "n10").await, ["2"]);
        assert_eq!(on(&store, "n").await, [""; 0]);
        assert_eq!(nodes(&store).await, ["n1", "n10", "n2"]);

        commit(&store, |txn| {
            txn.put(&Thing {
                over: true,
                ..thing("1", &["n1"])
            })
            .unwrap();
            txn.remove(&thing("2", &["n10"]));
        })
        .await;
        assert_eq!(on(&store, "n1").await, ["3"]);
        assert_eq!(nodes(&store).await, ["n1", "n2"]);
        assert!(store.reads().get::<Thing>("1").await.unwrap().is_some());
        assert!(store.reads().get::<Thing>("2").await.unwrap().is_none());
        store.close().await;
    }
}

#[tokio::test]
async fn a_search_goes_on_where_it_stopped_and_forgets_what_it_is_told_to() {
    for (store, _folder) in stores() {
        commit(&store, |txn| {
            for index in 0..25 {
                txn.put(&thing(&format!("{index:02}"), &["n"])).unwrap();
            }
        })
        .await;
        let mut seen = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.resting_on("n", after.as_deref(), 10).await.unwrap();
            let Some(last) = page.last() else { break };
            assert_eq!(last.kind, DueKind::Session);
            after = Some(last.position.clone());
            commit(&store, |txn| {
                page.iter().for_each(|found| txn.forget_resting("n", found))
            })
            .await;
            seen.extend(page.into_iter().map(|found| found.id));
        }
        assert_eq!(seen, (0..25).map(|index| format!("{index:02}")).collect::<Vec<_>>());
        assert!(nodes(&store).await.is_empty());
        store.close().await;
    }
}

#[tokio::test]
async fn a_record_that_is_written_again_writes_no_entry_again() {
    for (store, _folder) in stores() {
        commit(&store, |txn| txn.put(&thing("1", &["n"])).unwrap()).await;
        let prefix = Key::new(RESTING, "");
        let first = store.entries(&prefix, None, 10).unwrap();
        assert_eq!(first.len(), 1);
        commit(&store, |txn| txn.put(&thing("1", &["n"])).unwrap()).await;
        assert_eq!(
            store.entries(&prefix, None, 10).unwrap(),
            first,
            "with the version of the first write"
        );
        store.close().await;
    }
}

fn grant(node: &str, redeemed_at: &str, handle: u8) -> Grant {
    let subject = json!({"node_id": node, "owner": {"user": 1}, "label": "alice"});
    serde_json::from_value(json!({
        "id": GrantId::of(NodeTag::of(node), &[handle; 16]), "node_id": redeemed_at, "expires_at": 10, "revoked": false,
        "refresh": null, "code": SecretHash::of("code"),
        "authorization": {
            "client": "c", "subject": subject, "scopes": [], "resources": [], "auth_time": 0,
        },
    }))
    .unwrap()
}

fn code(node: &str, publisher: Option<&str>, name: &str) -> Code {
    let authorization = json!({
        "client": "c", "subject": {"node_id": node, "owner": {"user": 1}, "label": "alice"}, "scopes": [],
        "resources": [], "auth_time": 0,
        "published_by": publisher.map(|node| json!({"node_id": node, "owner": {"user": 2}})),
    });
    serde_json::from_value(json!({
        "id": NodeTag::of(node).to_text() + &"A".repeat(21) + name, "hash": SecretHash::of("code"),
        "authorization": authorization, "redirect_uri": "http://localhost/", "challenge": "x", "expires_at": 10,
        "spent": false,
    }))
    .unwrap()
}

#[tokio::test]
async fn codes_are_found_as_grants_are_and_before_them() {
    let mut txn = Txn::new();
    txn.put(&code("n1", None, "A")).unwrap();
    assert_eq!(txn.changes.len(), 1, "a code is one write");
    for (store, _folder) in stores() {
        let published = code("n3", Some("n4"), "A");
        commit(&store, |txn| {
            for code in [&code("n1", None, "A"), &code("n1", None, "Q"), &published] {
                txn.put(code).unwrap();
            }
            txn.put(&grant("n2", "n2", 1)).unwrap();
            txn.put(&grant("n1", "n1", 1)).unwrap();
        })
        .await;
        let mut found = nodes(&store).await;
        assert_eq!(found[0], "n4", "of the index");
        found[1..3].sort();
        found[3..].sort();
        assert_eq!(found[1..], ["n1", "n3", "n1", "n2"], "of the codes, then of the grants");
        assert_eq!(on(&store, "n4").await, [published.id.to_text()]);
        assert_eq!(on(&store, "n3").await, [""; 0]);

        let spent = Code {
            spent: true,
            ..published
        };
        commit(&store, |txn| txn.put(&spent).unwrap()).await;
        assert_eq!(on(&store, "n4").await, [""; 0]);
        commit(&store, |txn| txn.remove(&spent)).await;
        assert_eq!(nodes(&store).await.len(), 3);
        store.close().await;
    }
}

#[tokio::test]
async fn grants_are_found_below_their_nodes_tag_and_have_an_entry_for_other_nodes_only() {
    let mut txn = Txn::new();
    txn.put(&grant("n1", "n1", 0)).unwrap();
    assert_eq!(txn.changes.len(), 1, "new or refreshed, a grant is one write");
    for (store, _folder) in stores() {
        let there = grant("n3", "n4", 7);
        commit(&store, |txn| {
            txn.put(&thing("1", &["n1"])).unwrap();
            for handle in 0..5 {
                txn.put(&grant("n1", "n1", handle)).unwrap();
                txn.put(&grant("n2", "n2", handle)).unwrap();
            }
            txn.put(&there).unwrap();
        })
        .await;
        let mut found = nodes(&store).await;
        assert_eq!(found[..2], ["n1", "n4"], "of the index");
        found[2..].sort();
        assert_eq!(found[2..], ["n1", "n2", "n3"], "of the grants, one search for each");
        assert_eq!(on(&store, "n1").await, ["1"]);
        assert_eq!(on(&store, "n2").await, [""; 0]);
        assert_eq!(on(&store, "n4").await, [there.id.as_str()]);
        let below = store
            .scan::<Grant>(NodeTag::of("n2").to_text().as_bytes(), None, 100)
            .await
            .unwrap();
        assert_eq!(below.records.len(), 5);

        let revoked = Grant { revoked: true, ..there };
        commit(&store, |txn| txn.put(&revoked).unwrap()).await;
        assert_eq!(on(&store, "n4").await, [""; 0]);
        commit(&store, |txn| txn.remove(&revoked)).await;
        assert_eq!(nodes(&store).await.len(), 3);
        store.close().await;
    }
}

#[test]
fn every_kind_is_read_back_from_its_letter() {
    for kind in [
        DueKind::Code,
        DueKind::Grant,
        DueKind::Session,
        DueKind::Remembered,
        DueKind::Opaque,
    ] {
        assert_eq!(DueKind::from_letter(kind as u8), Some(kind));
    }
    assert_eq!(DueKind::from_letter(200), None);
}
