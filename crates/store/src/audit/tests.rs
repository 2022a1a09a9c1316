use countersign_oauth::audit::AuditRecord;
use time::OffsetDateTime;

use super::*;
use crate::{OpenOptions, store::Store};

async fn say(store: &Store, from: usize, to: usize) {
    for number in from..to {
        let mut txn = Txn::new();
        for half in ["a", "b"] {
            let line = AuditRecord::own(&format!("{number:04}{half}"), OffsetDateTime::UNIX_EPOCH);
            txn.audit(&line).unwrap();
        }
        store.commit(txn).await.unwrap();
    }
}

fn number(line: &str) -> usize {
    let record: AuditRecord = serde_json::from_str(line).unwrap();
    record.event[..4].parse().unwrap()
}

/// Everything, read in pages of `limit`.
async fn read(store: &Store, limit: usize) -> Vec<usize> {
    let (mut numbers, mut after) = (Vec::new(), None);
    loop {
        let page = store.audit(after.as_deref(), limit).await.unwrap();
        let Some((last, _)) = page.last() else { return numbers };
        after = Some(last.clone());
        numbers.extend(page.iter().map(|(_, line)| number(line)));
    }
}

#[tokio::test]
async fn lines_are_read_in_order_whether_they_have_moved_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        folder: folder.path().join("store"),
        node: "node-a".into(),
        cache_bytes: 4 << 20,
        entropy: [7; 16],
    };
    let store = Store::open(&options).unwrap();
    say(&store, 0, 120).await;
    assert!(store.oldest_audit(9).await.unwrap().is_empty(), "they may still move");
    store.close().await;
    drop(store);

    let store = Store::open(&options).unwrap();
    say(&store, 120, 130).await;
    let all: Vec<usize> = (0..130).flat_map(|number| [number, number]).collect();
    for limit in [1, 7, 100, 1000] {
        assert_eq!(read(&store, limit).await, all, "in pages of {limit}");
    }

    let oldest = store.oldest_audit(1).await.unwrap().remove(0);
    assert!(oldest.lines.len() > 10, "{}", oldest.lines.len());
    let mut txn = Txn::new();
    txn.forget_audit(&oldest);
    store.commit(txn).await.unwrap();
    assert_eq!(read(&store, 50).await, all[oldest.lines.len()..]);
    assert_eq!(store.audit_count().await.unwrap(), 260 - oldest.lines.len() as u64);
    let next = store.oldest_audit(1).await.unwrap().remove(0);
    assert_ne!(next.lines, oldest.lines, "what was forgotten does not come again");
}

#[test]
fn a_damaged_bundle_gives_what_is_whole() {
    let mut bundle = Bundle::default();
    for place in 0..3 {
        let key = position(1, place);
        let added = bundle.add(&key.as_bytes()[6..], &record::seal(Version(1), b"line"));
        assert!(added.is_none());
    }
    let (_, stored) = bundle.end().unwrap();
    assert!(bundle.end().is_none());
    assert_eq!(unbundled(&stored).count(), 3);
    for cut in 0..stored.len() {
        assert!(unbundled(&stored[..cut]).all(|(_, line)| line == "line"));
    }
}
