//! Nothing that was acknowledged is lost when the process is killed: a child writes and reports, the parent kills it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a test: clippy exempts only functions marked as one"
)]

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use countersign_store::{OpenOptions, Record, Store, Txn};
use serde::{Deserialize, Serialize};

const FOLDER: &str = "COUNTERSIGN_KILL_FOLDER";

#[derive(Serialize, Deserialize)]
struct Line(u64);

impl Record for Line {
    const TABLE: &'static str = "line";
    const FORMAT: u16 = 1;

    fn id(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }
}

fn open(folder: &Path) -> Store {
    let options = OpenOptions {
        folder: folder.to_owned(),
        node: "node".into(),
        cache_bytes: 4 << 20,
        entropy: [1; 16],
    };
    Store::open(&options).unwrap()
}

async fn stored(store: &Store) -> BTreeSet<u64> {
    let mut lines = BTreeSet::new();
    let mut from = None;
    loop {
        let page = store.scan::<Line>(b"", from.as_deref(), 500).await.unwrap();
        lines.extend(page.records.into_iter().map(|line| line.0));
        from = page.next;
        if from.is_none() {
            return lines;
        }
    }
}

/// The child: writes as fast as it can from eight tasks and prints each line once it is acknowledged.
#[tokio::test]
async fn child_writes_until_it_is_killed() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let store = open(Path::new(&folder));
    let next = stored(&store).await.last().map_or(0, |last| last + 1);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for step in 0.. {
                let line = next + task + 8 * step;
                let mut txn = Txn::new();
                txn.put(&Line(line)).unwrap();
                txn.count("lines", 1, None);
                store.commit(txn).await.unwrap();
                let mut out = std::io::stdout().lock();
                writeln!(out, "line {line}").unwrap();
                out.flush().unwrap();
            }
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    for round in 0..6_u64 {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "child_writes_until_it_is_killed", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(out).lines().map_while(Result::ok);
            lines
                .filter_map(|line| line.rsplit_once("line ")?.1.parse().ok())
                .collect::<Vec<u64>>()
        });
        std::thread::sleep(Duration::from_millis(150 + 37 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged.extend(reader.join().unwrap());

        let opened = Instant::now();
        let store = open(folder.path());
        let stored = stored(&store).await;
        let lost: Vec<_> = acknowledged.difference(&stored).collect();
        assert!(
            lost.is_empty(),
            "round {round}: {lost:?} of {} acknowledged",
            acknowledged.len()
        );
        assert_eq!(store.reads().counter("lines").await.unwrap(), stored.len() as u64);
        assert!(opened.elapsed() < Duration::from_secs(10));
    }
    assert!(
        acknowledged.len() > 100,
        "the children hardly wrote: {}",
        acknowledged.len()
    );
}
