//! A connection carries the identity of whoever opened it, and the tailnet's present opinion of them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests and their helpers")]

use countersign_node_tests::fleet::{ALICE, BOB, Fleet, PATIENCE, PORT, SERVER, accept_echo, echo, policy};
use tailnet_node::{Caller, Who};
use tailnet_testkit::{AuthKeySpec, TailnetConfig};
use tokio::time::timeout;

fn roles(caller: &Caller) -> Vec<String> {
    let identity = caller.identity().unwrap();
    identity
        .capabilities
        .values("example.com/cap/test")
        .map(|value| value.get().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caller_is_the_user_whose_node_dialled() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut listener = server.listen(PORT).unwrap();
    let mut stream = alice.dial("server:443").await.unwrap();
    let caller = accept_echo(&mut listener).await;
    echo(&mut stream, b"hello").await.unwrap();

    let identity = caller.identity().unwrap();
    let info = fleet.info("alice");
    assert_eq!(identity.stable_id.as_ref(), info.id.to_string());
    assert_eq!(identity.node_key, info.key);
    assert_eq!(identity.node_name.as_ref(), "alice.tailnet.test");
    assert_eq!(identity.addresses, info.addresses);
    let Who::User {
        login, display_name, ..
    } = identity.who
    else {
        panic!("{identity:?}")
    };
    assert_eq!((login.as_ref(), display_name.as_ref()), (ALICE, "Alice"));
    assert_eq!(roles(&caller), [r#"{"role":"admin"}"#]);
    assert!(info.addresses.contains(&caller.remote_addr().ip()));
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_addresses_of_both_families_can_be_dialled() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut listener = server.listen(PORT).unwrap();
    let info = fleet.info("server");
    let targets = [
        "server:443".to_owned(),
        "server.tailnet.test:443".to_owned(),
        "SERVER.tailnet.test.:443".to_owned(),
        format!("{}:443", info.addresses[0]),
        format!("[{}]:443", info.addresses[1]),
    ];
    for target in targets {
        let mut stream = alice
            .dial(&target)
            .await
            .unwrap_or_else(|error| panic!("{target}: {error}"));
        let caller = accept_echo(&mut listener).await;
        echo(&mut stream, target.as_bytes())
            .await
            .unwrap_or_else(|error| panic!("{target}: {error}"));
        assert_eq!(
            caller.identity().unwrap().stable_id.as_ref(),
            fleet.info("alice").id.to_string()
        );
    }
    let unknown = timeout(PATIENCE, alice.dial("nobody:443")).await.unwrap().unwrap_err();
    assert!(unknown.to_string().contains("nobody"), "{unknown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_edit_changes_what_an_open_connection_may_do() {
    let fleet = Fleet::start().await;
    let (server, alice) = fleet.pair().await;
    let mut listener = server.listen(PORT).unwrap();
    let mut stream = alice.dial("server:443").await.unwrap();
    let caller = accept_echo(&mut listener).await;
    let mut changes = server.netmap_changes();
    fleet
        .tailnet
        .set_policy(&policy(r#"{"example.com/cap/test": [{"role": "guest"}, 7]}"#))
        .unwrap();
    timeout(PATIENCE, async {
        while roles(&caller) != [r#"{"role":"guest"}"#, "7"] {
            let _ = timeout(PATIENCE / 1000, changes.changed()).await;
        }
    })
    .await
    .unwrap();
    echo(&mut stream, b"the connection goes on").await.unwrap();
    fleet.tailnet.set_policy(&policy("{}")).unwrap();
    timeout(PATIENCE, async {
        while !roles(&caller).is_empty() {
            let _ = timeout(PATIENCE / 1000, changes.changed()).await;
        }
    })
    .await
    .unwrap();
    echo(&mut stream, b"and on").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tagged_node_is_its_tags_and_nobody() {
    let fleet = Fleet::start().await;
    let server = fleet.join("server", AuthKeySpec::tags(&[SERVER])).await;
    let client = fleet.join("client", AuthKeySpec::tags(&["tag:client"])).await;
    let mut listener = server.listen(PORT).unwrap();
    let _stream = client.dial("server:443").await.unwrap();
    let caller = accept_echo(&mut listener).await;
    let Who::Tagged(tags) = caller.identity().unwrap().who else {
        panic!("not tagged")
    };
    assert_eq!(tags.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), ["tag:client"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_rule_there_is_no_such_peer() {
    let fleet = Fleet::start().await;
    let _server = fleet.join("server", AuthKeySpec::tags(&[SERVER])).await;
    let bob = fleet.join("bob", AuthKeySpec::user(BOB)).await;
    let error = timeout(PATIENCE, bob.dial("server:443")).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("server"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_no_rule_names_stays_shut() {
    let document = policy("{}").replace("\"tcp:443\"", "\"tcp:8443\"");
    let fleet = Fleet::with(TailnetConfig {
        policy: Some(document),
        ..TailnetConfig::default()
    })
    .await;
    let (server, alice) = fleet.pair().await;
    let mut shut = server.listen(PORT).unwrap();
    let mut open = server.listen(8443).unwrap();
    let _stream = alice.dial("server:8443").await.unwrap();
    accept_echo(&mut open).await;
    let dial = timeout(std::time::Duration::from_millis(1500), alice.dial("server:443")).await;
    assert!(!matches!(dial, Ok(Ok(_))), "the filter must drop the SYN");
    assert!(
        timeout(std::time::Duration::from_millis(10), shut.accept())
            .await
            .is_err()
    );
}
