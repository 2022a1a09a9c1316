//! What a registration costs, on request: `cargo test --release -p countersign-server speed -- --ignored --nocapture`.

use std::time::Instant;

use countersign_oauth::{
    grant::{Grant, GrantId, NodeTag},
    subject::Subject,
};
use countersign_store::Txn;

use super::*;
use crate::signer::{Type, Verifier, verify};

const BATCH: usize = 1000;

#[ignore = "a measurement, and only a release build is worth measuring"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_cost_the_same_however_many_are_stored() {
    let folder = tempfile::tempdir().unwrap();
    let options = countersign_store::OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 8 << 20,
        entropy: [3; 16],
    };
    let rig = Rig::on(config(), Store::open(&options).unwrap()).await;
    let mut clients = Vec::new();
    for _ in 0..16 {
        clients.push(rig.client(&Node::alice()).await);
    }
    for round in 0..11 {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let mut tasks = tokio::task::JoinSet::new();
        for mut client in clients.drain(..) {
            tasks.spawn(async move {
                for _ in 0..BATCH / 16 {
                    assert_eq!(client.register(&public_client()).await.status, StatusCode::CREATED);
                }
                client
            });
        }
        clients = tasks.join_all().await;
        let done = (BATCH / 16 * 16) as f64;
        println!(
            "from {:>5}: {:.3} ms CPU each (client included), {:.0}/s, store {} KiB, RSS {} MiB",
            round * BATCH,
            (cpu_seconds() - cpu) * 1e3 / done,
            done / wall.elapsed().as_secs_f64(),
            rig.store.size() >> 10,
            resident() >> 20,
        );
    }
}

#[ignore = "a measurement, and only a release build is worth measuring"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_and_refreshes_with_everything_on_disk() {
    const FLOWS: usize = 100;
    const TASKS: usize = 16;
    let folder = tempfile::tempdir().unwrap();
    let options = countersign_store::OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 8 << 20,
        entropy: [3; 16],
    };
    let rig = Rig::on(config(), Store::open(&options).unwrap()).await;
    let node = flow::alice();
    let id = flow::registered(&mut rig.client(&node).await).await;
    let mut clients = Vec::new();
    for _ in 0..TASKS {
        clients.push((rig.client(&node).await, String::new()));
    }
    for what in ["flow (page, consent, token)", "refresh"] {
        let (cpu, wall) = (cpu_seconds(), Instant::now());
        let mut tasks = tokio::task::JoinSet::new();
        for (mut client, mut token) in clients.drain(..) {
            let id = id.clone();
            tasks.spawn(async move {
                for _ in 0..FLOWS {
                    let answer = if what == "refresh" {
                        flow::refresh(&mut client, &id, &token).await
                    } else {
                        let code = flow::code(&mut client, &id, &[("scope", "openid")]).await;
                        flow::redeem(&mut client, &id, &code).await
                    };
                    token = flow::text(&answer, "refresh_token");
                }
                (client, token)
            });
        }
        clients = tasks.join_all().await;
        let done = (FLOWS * TASKS) as f64;
        println!(
            "{what}: {:.3} ms CPU each (client included), {:.0}/s, store {} KiB, RSS {} MiB",
            (cpu_seconds() - cpu) * 1e3 / done,
            done / wall.elapsed().as_secs_f64(),
            rig.store.size() >> 10,
            resident() >> 20,
        );
    }
}

#[ignore = "a measurement, and only a release build is worth measuring"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_flows_on_disk_and_what_the_sweep_gives_back() {
    const TASKS: usize = 16;
    const HOUR: i64 = 3600;
    let folder = tempfile::tempdir().unwrap();
    let options = countersign_store::OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 8 << 20,
        entropy: [3; 16],
    };
    let rig = Rig::on(config(), Store::open(&options).unwrap()).await;
    let node = flow::alice();
    let id = flow::registered(&mut rig.client(&node).await).await;
    // FLOWS=20000 for those in a hurry.
    let total: usize = std::env::var("FLOWS").map_or(100_000, |text| text.parse().unwrap());
    let flows = async |count: usize| {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..TASKS {
            let (mut client, id) = (rig.client(&node).await, id.clone());
            tasks.spawn(async move {
                for _ in 0..count / TASKS {
                    let code = flow::code(&mut client, &id, &[("scope", "openid")]).await;
                    assert_eq!(flow::redeem(&mut client, &id, &code).await.status, StatusCode::OK);
                }
            });
        }
        tasks.join_all().await;
    };
    let say = |what: &str| {
        println!(
            "{what}: store {} MiB, RSS {} MiB",
            rig.store.size() >> 20,
            resident() >> 20
        )
    };
    for step in 1..=10 {
        flows(total / 10).await;
        say(&format!("after {} flows", step * total / 10));
    }
    for (hours, what) in [
        (25, "codes swept, a day later"),
        (31 * 24, "grants swept, a month later"),
    ] {
        rig.seconds.fetch_add(hours * HOUR, Relaxed);
        let wall = Instant::now();
        sweep::ended(&rig.store, rig.now()).await.unwrap();
        let mut walk = sweep::Walk::default();
        for _ in 0..60 {
            walk.go_on(&rig.store, rig.now()).await.unwrap();
        }
        say(&format!("{what} ({:.0} s)", wall.elapsed().as_secs_f64()));
    }
    flows(total / 10).await;
    say(&format!("{} flows more", total / 10));
}

#[ignore = "a measurement, and only a release build is worth measuring"]
#[tokio::test]
async fn signatures_by_algorithm() {
    let claims = json!({
        "iss": format!("https://{HOST}"), "sub": "userid:1", "aud": "https://mcp.example.ts.net/mcp", "iat": 1_700_000_000,
        "exp": 1_700_000_300, "jti": "0123456789abcdefghijkl", "scope": "openid profile mcp:tools", "client_id": "0".repeat(32),
        "gid": "0123456789abcdefghijkl", "auth_time": 1_700_000_000, "cnf": {"tailnet_node": "n123456CNTRL"},
    });
    // The first key waits for the library to gather entropy.
    crate::keys::made_for_tests("k", SigningAlg::Es256);
    for alg in SigningAlg::ALL {
        let made = Instant::now();
        let signer = Arc::new(crate::keys::made_for_tests("k", alg));
        let made = made.elapsed();
        let verifier = Verifier::new(alg, signer.public()).unwrap();
        let each = if alg == SigningAlg::Rs256 { 2_000 } else { 20_000 };
        let (cpu, mut token) = (cpu_seconds(), String::new());
        for _ in 0..each {
            token = signer.sign(Type::AccessToken, &claims).await.unwrap();
        }
        let signed = cpu_seconds() - cpu;
        let cpu = cpu_seconds();
        for _ in 0..each {
            assert!(verify(Type::AccessToken, &token, |_| Some(&verifier)).is_some());
        }
        println!(
            "{}: sign {:.1} us CPU, check {:.1} us CPU, token {} bytes, key made in {:.2} ms",
            alg.as_str(),
            signed * 1e6 / f64::from(each),
            (cpu_seconds() - cpu) * 1e6 / f64::from(each),
            token.len(),
            made.as_secs_f64() * 1e3,
        );
    }
}

/// CPU seconds of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime and stime, in ticks of 10 ms.
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// As many grants like one, of each of the holders in turn.
async fn put_grants(store: &Store, like: &Grant, holders: &[Node], count: usize) {
    for chunk in (0..count).collect::<Vec<_>>().chunks(500) {
        let mut txn = Txn::new();
        for index in chunk {
            let mut grant = like.clone();
            let holder = holders[index % holders.len()].facts.lock();
            grant.id = GrantId::of(NodeTag::of(&holder.node_id), &(*index as u128).to_be_bytes());
            grant.authorization.subject = Subject::of(&holder);
            grant.node_id = holder.node_id.clone();
            txn.put(&grant).unwrap();
        }
        store.commit(txn).await.unwrap();
    }
}

/// What a netmap change costs with 10,000 grants: one that concerns no holder, one that concerns one, and one that takes
/// everything.
#[ignore = "a measurement, and only a release build is worth measuring"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_netmap_change_with_ten_thousand_grants() {
    const GRANTS: usize = 10_000;
    for holders in [1, 100, GRANTS] {
        let folder = tempfile::tempdir().unwrap();
        let options = countersign_store::OpenOptions {
            folder: folder.path().join("store"),
            node: "node".into(),
            cache_bytes: 8 << 20,
            entropy: [3; 16],
        };
        let store = Store::open(&options).unwrap();
        let nodes = Nodes::new();
        let rig = Rig::with(config(), store.clone(), nodes.clone()).await;
        let mut alice = rig.client(&flow::alice()).await;
        let id = flow::registered(&mut alice).await;
        let code = flow::code(&mut alice, &id, &[("resource", flow::RESOURCE)]).await;
        flow::redeem(&mut alice, &id, &code).await;
        let like = store.scan::<Grant>(b"", None, 1).await.unwrap().records.remove(0);
        let all: Vec<_> = (0..holders)
            .map(|index| Node::user(1000 + index as i64, &format!("u{index}"), &[flow::ALL]))
            .collect();
        all.iter().for_each(|node| nodes.add(node));
        put_grants(&store, &like, &all, GRANTS).await;
        // As at a start: everything is looked at for the first time.
        for what in [
            "first look, nothing lost",
            "nobody concerned",
            "one holder",
            "all but one",
        ] {
            let before = rig.counters().records_ended;
            let lost = match what {
                "one holder" => 1,
                "all but one" => holders - 1,
                _ => 0,
            };
            let skip = usize::from(what == "all but one");
            for node in all.iter().skip(skip).take(lost) {
                node.facts.lock().policy = Policy::default();
            }
            let expected = before + (lost * (GRANTS / holders)) as u64;
            let (cpu, wall) = (cpu_seconds(), Instant::now());
            nodes.announce();
            while rig.counters().records_ended < expected {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            tokio::time::sleep(Duration::from_millis(if lost == 0 { 1500 } else { 0 })).await;
            println!(
                "{holders:>5} holders, {what}: {:.0} ms CPU, {:.0} ms until {} records had ended",
                (cpu_seconds() - cpu) * 1e3,
                wall.elapsed().as_secs_f64() * 1e3,
                rig.counters().records_ended - before,
            );
        }
    }
}
