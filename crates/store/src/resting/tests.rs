use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::*;
use crate::{OpenOptions, Record};

/// Something that rests on nodes and a client.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Thing {
    id: String,
    nodes: Vec<String>,
    client: String,
    over: bool,
}

impl Record for Thing {
    const TABLE: &'static str = "thing";
    const FORMAT: u32 = 1;

    fn id(&self) -> Vec<u8> {
        self.id.clone().into_bytes()
    }

    fn resting(&self) -> Option<Resting<'_>> {
        let mut on: Vec<_> = self.nodes.iter().map(|node| Anchor::Node(node)).collect();
        on.push(Anchor::Client(&self.client));
        Some(Resting {
            kind: DueKind::Grant,
            live: !self.over,
            on,
        })
    }
}

fn thing(id: &str, nodes: &[&str]) -> Thing {
    Thing {
        id: id.into(),
        nodes: nodes.iter().map(ToString::to_string).collect(),
        client: "c".into(),
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

async fn on(store: &Store, anchor: &Anchor<'_>) -> Vec<String> {
    let found = store.resting_on(anchor, None, 100).await.unwrap();
    found.into_iter().map(|found| found.id).collect()
}

async fn nodes(store: &Store) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    while let Some(node) = store
        .next_anchored_node(nodes.last().map(String::as_str))
        .await
        .unwrap()
    {
        nodes.push(node);
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
        assert_eq!(on(&store, &Anchor::Node("n1")).await, ["1", "3"]);
        assert_eq!(on(&store, &Anchor::Node("n10")).await, ["2"]);
        assert_eq!(on(&store, &Anchor::Node("n")).await, [""; 0]);
        assert_eq!(on(&store, &Anchor::Client("c")).await, ["1", "2", "3"]);
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
        assert_eq!(on(&store, &Anchor::Node("n1")).await, ["3"]);
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
        let anchor = Anchor::Node("n");
        let mut seen = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = store.resting_on(&anchor, after.as_deref(), 10).await.unwrap();
            let Some(last) = page.last() else { break };
            assert_eq!(last.kind, DueKind::Grant);
            after = Some(last.position.clone());
            commit(&store, |txn| {
                page.iter().for_each(|found| txn.forget_resting(&anchor, found))
            })
            .await;
            seen.extend(page.into_iter().map(|found| found.id));
        }
        assert_eq!(seen, (0..25).map(|index| format!("{index:02}")).collect::<Vec<_>>());
        assert!(nodes(&store).await.is_empty());
        assert_eq!(on(&store, &Anchor::Client("c")).await.len(), 25);
        store.close().await;
    }
}

#[tokio::test]
async fn a_record_that_is_written_again_writes_no_entry_again() {
    for (store, _folder) in stores() {
        commit(&store, |txn| txn.put(&thing("1", &["n"])).unwrap()).await;
        let prefix = Key::new(RESTING, "");
        let first = store.entries(&prefix, None, 10).unwrap();
        assert_eq!(first.len(), 2);
        commit(&store, |txn| txn.put(&thing("1", &["n"])).unwrap()).await;
        assert_eq!(
            store.entries(&prefix, None, 10).unwrap(),
            first,
            "with the version of the first write"
        );
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
