//! What keeps `countersign serve` from starting or from going on: one line that says what is wrong and what to do, an
//! exit code where it cannot go on, quiet repetition where it can, and nothing lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests and their helpers"
)]

mod harness;

use std::{
    fs,
    net::{TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use tailnet_testkit::{AuthKeySpec, TailnetConfig};

use self::harness::{ALICE, FAILED, Flags, Place, REFUSED, Server, TAG, gives_up, goes_on};

#[tokio::test(flavor = "multi_thread")]
async fn auth_keys() {
    let place = Place::new().await;
    let with = |key: &str| Flags {
        auth_key_file: Some(place.key(key)),
        ..place.flags()
    };
    let mut flags = with("hskey-auth-no-such");
    flags.auth_key_file = Some(place.key("hskey-auth-no-such"));
    gives_up(&place, &flags, REFUSED, &["invalid pre auth key", "copied whole"]).await;
    let expired = AuthKeySpec::tags(&[TAG]).valid_for(-time::Duration::SECOND);
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(expired).unwrap()));
    gives_up(&place, &flags, REFUSED, &["expired", "new auth key"]).await;
    let mut none = place.flags();
    none.auth_key_file = None;
    let mut server = goes_on(&place, &none, &["open", "/register/"]).await;
    server.stop().await;
    let mut missing = place.flags();
    missing.auth_key_file = Some(place.path("no-such-file"));
    let mut server = Server::start(&missing);
    assert_eq!(server.exit().await, 2);
    println!("[2] {}", server.seen.join("\n    "));
    assert!(
        server.seen.iter().any(|line| line.contains("no-such-file")),
        "{:#?}",
        server.seen
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_used() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let once = place.tailnet.auth_key(AuthKeySpec::tags(&[TAG])).unwrap();
    flags.auth_key_file = Some(place.key(&once));
    let mut first = Server::start(&flags);
    first.line("ready: serving").await;
    flags.state_dir = place.path("second");
    gives_up(&place, &flags, REFUSED, &["already used", "new auth key"]).await;
    first.stop().await;
    // The node itself comes back with it.
    flags.state_dir = place.state();
    let mut again = Server::start(&flags);
    again.line("ready: serving").await;
    again.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let user = AuthKeySpec::user(ALICE).reusable();
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(user).unwrap()));
    gives_up(&place, &flags, REFUSED, &[TAG, "no tags", "tagOwners"]).await;
    let other = AuthKeySpec::tags(&["tag:other"]).reusable();
    flags.auth_key_file = Some(place.key(&place.tailnet.auth_key(other).unwrap()));
    flags.state_dir = place.path("other");
    gives_up(&place, &flags, REFUSED, &[TAG, "tag:other"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_other_times() {
    let new = Place::with(TailnetConfig {
        min_version: 10_000,
        ..TailnetConfig::default()
    })
    .await;
    goes_on(&new, &new.flags(), &["version", "Headscale"])
        .await
        .stop()
        .await;
    let locked = Place::with(TailnetConfig {
        locked: true,
        ..TailnetConfig::default()
    })
    .await;
    gives_up(&locked, &locked.flags(), REFUSED, &["tailnet lock"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_that_is_not_there() {
    let place = Place::new().await;
    let mut flags = place.flags();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    flags.control_url = format!("https://127.0.0.1:{port}");
    goes_on(&place, &flags, &["cannot be reached", &port.to_string(), "control_url"])
        .await
        .stop()
        .await;
    flags.control_url = "https://no-such-host.invalid".to_owned();
    flags.state_dir = place.path("dns");
    goes_on(&place, &flags, &["no-such-host.invalid", "does not resolve", "DNS"])
        .await
        .stop()
        .await;
    flags.control_url = place.tailnet.derp_url();
    flags.state_dir = place.path("relay");
    goes_on(
        &place,
        &flags,
        &["does not answer like a control server", "control_url"],
    )
    .await
    .stop()
    .await;
    flags.control_url = format!("{}/path", place.tailnet.control_url());
    flags.state_dir = place.path("with-path");
    let mut server = Server::start(&flags);
    assert_eq!(server.exit().await, 2, "{:#?}", server.seen);
    println!("[2] {}", server.seen.join("\n    "));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ca_that_is_not_trusted() {
    let place = Place::new().await;
    let mut flags = place.flags();
    flags.extra_ca_file = None;
    goes_on(&place, &flags, &["certificate", "extra_ca_file"])
        .await
        .stop()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clocks_that_are_off() {
    let expired = Place::with(TailnetConfig {
        expired_certificate: true,
        ..TailnetConfig::default()
    })
    .await;
    goes_on(
        &expired,
        &expired.flags(),
        &["certificate expired", "check both clocks"],
    )
    .await
    .stop()
    .await;
    let place = Place::new().await;
    place.tailnet.set_clock_skew(time::Duration::hours(3));
    let mut server = goes_on(&place, &place.flags(), &["clock is 10", "behind", "NTP"]).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_is_not_there() {
    let place = Place::new().await;
    place.tailnet.stop_derp().await;
    let mut server = Server::start(&place.flags());
    server.line("ready: serving").await;
    server.watch(Duration::from_secs(3)).await;
    let complaints = server.complaints();
    println!("[..] {}", complaints.join("\n    "));
    assert_eq!(complaints.len(), 1, "{:#?}", server.seen);
    assert!(complaints[0].contains("home DERP relay cannot be reached"));
    place.tailnet.resume_derp().await.unwrap();
    server.line("connected to DERP").await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn state_folders() {
    let place = Place::new().await;
    place.run_once().await;
    let good = fs::read(place.state().join("node.json")).unwrap();
    let file = place.state().join("node.json");
    for damaged in [&good[..good.len() / 2], b"", b"{}", b"\0\0\0\0"] {
        fs::write(&file, damaged).unwrap();
        gives_up(&place, &place.flags(), FAILED, &["node.json", "damaged", "backup"]).await;
        assert_eq!(fs::read(&file).unwrap(), damaged, "it is left as it was");
    }
    fs::write(&file, &good).unwrap();

    let mut flags = place.flags();
    flags.control_url = "https://other.example".to_owned();
    gives_up(&place, &flags, FAILED, &["other.example", "belongs to a node of"]).await;

    let mut holder = Server::start(&place.flags());
    holder.line("ready: serving").await;
    gives_up(&place, &place.flags(), FAILED, &["in use", "pid"]).await;
    holder.stop().await;

    let mut flags = place.flags();
    flags.state_dir = PathBuf::from("/proc/countersign");
    gives_up(&place, &flags, FAILED, &["/proc/countersign", "state_dir"]).await;
    fs::write(place.path("file"), "").unwrap();
    flags.state_dir = place.path("file");
    gives_up(&place, &flags, FAILED, &["file", "not a folder", "state_dir"]).await;
    assert_eq!(fs::read(&file).unwrap().len(), good.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_another_node() {
    let place = Place::new().await;
    place.run_once().await;
    let mut flags = place.flags();
    flags.state_dir = place.path("other");
    let mut other = Server::start(&flags);
    other.line("ready: serving").await;
    other.stop().await;
    let (mine, theirs) = (place.state().join("store"), flags.state_dir.join("store"));
    fs::rename(&theirs, place.path("aside")).unwrap();
    copy(&mine, &theirs);
    gives_up(
        &place,
        &flags,
        FAILED,
        &[
            "store",
            "belongs to the node with machine key",
            "state folder of this node",
        ],
    )
    .await;
    fs::remove_dir_all(&theirs).unwrap();
    fs::rename(place.path("aside"), &theirs).unwrap();
    let mut again = Server::start(&flags);
    again.line("ready: serving").await;
    again.stop().await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_udp_port_that_is_taken() {
    let place = Place::new().await;
    let taken = UdpSocket::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut flags = place.flags();
    flags.more.push(format!("--udp-port={port}"));
    gives_up(&place, &flags, FAILED, &[&port, "udp_port"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn control_that_talks_nonsense() {
    let place = Place::new().await;
    let mut server = Server::start(&place.flags());
    server.line("ready: serving").await;
    let node = place.tailnet.node("idp").unwrap();
    type Nonsense<'a> = (&'a str, &'a dyn Fn());
    let nonsense: [Nonsense; 4] = [
        ("a frame of random bytes", &|| {
            place.tailnet.inject_raw(node.id, &[8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
        }),
        ("a frame without end", &|| {
            place.tailnet.inject_raw(node.id, &[0xff; 64]);
        }),
        ("no JSON", &|| {
            place.tailnet.inject(node.id, "{\"Peers\": [");
        }),
        ("JSON of other types", &|| {
            place.tailnet.inject(node.id, "{\"Peers\": \"all\"}");
        }),
    ];
    for (what, inject) in nonsense {
        let before = server.complaints().len();
        inject();
        let line = server.line("WARN").await;
        println!("{what}: {line}");
        server.line("connected to control").await;
        assert_eq!(server.complaints().len(), before + 1, "{:#?}", server.seen);
    }
    place.tailnet.stop_control().await;
    println!("control stops: {}", server.line("WARN").await);
    place.tailnet.resume_control().await.unwrap();
    server.line("connected to control").await;
    assert_eq!(place.tailnet.node("idp").unwrap().id, node.id);
    place.tailnet.delete_node(node.id).unwrap();
    server.stop().await;
}
