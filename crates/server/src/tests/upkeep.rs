//! What is removed because its time is over, and what goes with a client.

use countersign_oauth::{
    audit::AuditRecord,
    grant::{Code, Grant},
};
use countersign_store::{Due, OpenOptions, Txn, UnusedUntil};

use super::{
    flow::{FORM, RESOURCE, alice, code, form, page, redeem, refresh, registered, text},
    *,
};
use crate::counters::Counters;

const DAY: i64 = 24 * 3600;

async fn noted(rig: &Rig, events: usize) {
    for chunk in (0..events).collect::<Vec<_>>().chunks(100) {
        let mut txn = Txn::new();
        for index in chunk {
            txn.audit(&AuditRecord::own(&format!("event-{index}"), rig.now()))
                .unwrap();
        }
        rig.store.commit(txn).await.unwrap();
    }
}

async fn sweep_once(rig: &Rig, config: &ServerConfig, counters: &Counters) {
    sweep::once(&rig.store, config, counters, &mut sweep::Walk::default(), rig.now())
        .await
        .unwrap();
}

#[tokio::test]
async fn audit_records_are_kept_for_their_time_and_up_to_their_number() {
    let rig = Rig::start(config()).await;
    let counters = Counters::default();
    let mut few = config();
    few.limits.audit_records = 300;
    let first = usize::try_from(rig.store.audit_count().await.unwrap()).unwrap();
    noted(&rig, 250 - first).await;
    rig.seconds.fetch_add(89 * DAY, Relaxed);
    noted(&rig, 150).await;
    sweep_once(&rig, &few, &counters).await;
    assert_eq!(rig.store.audit_count().await.unwrap(), 300, "the oldest are too many");
    assert_eq!(counters.snapshot().audit_pruned, 100);
    let oldest = rig.store.audit(None, 1).await.unwrap();
    let expected = format!("event-{}\"", 100 - first);
    assert!(oldest[0].1.contains(&expected), "{}", oldest[0].1);

    rig.seconds.fetch_add(2 * DAY, Relaxed);
    sweep_once(&rig, &few, &counters).await;
    assert_eq!(rig.store.audit_count().await.unwrap(), 150, "and now too old");
    assert_eq!(rig.store.audit(None, 1000).await.unwrap().len(), 150);
    assert_eq!(counters.snapshot().audit_pruned, 250);
}

#[tokio::test]
async fn sweeps_move_what_waits_in_the_journal_so_that_retention_reaches_it() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        folder: folder.path().join("store"),
        node: "node".into(),
        cache_bytes: 4 << 20,
        entropy: [7; 16],
    };
    let rig = Rig::on(config(), Store::open(&options).unwrap()).await;
    let mut few = config();
    few.limits.audit_records = 0;
    assert!(rig.store.audit_count().await.unwrap() > 0);
    let counters = Counters::default();
    let pruned = async {
        while rig.store.audit_count().await.unwrap() > 0 {
            sweep_once(&rig, &few, &counters).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), pruned)
        .await
        .expect("nothing is written, and still it moves");
}

#[tokio::test]
async fn a_sweep_leaves_nothing_of_what_is_over_and_counts_it() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    registered(&mut alice).await;
    for _ in 0..60 {
        let code = code(&mut alice, &id, &[]).await;
        redeem(&mut alice, &id, &code).await;
        flow::code(&mut alice, &id, &[]).await;
    }
    rig.seconds.fetch_add(31 * DAY, Relaxed);
    let counters = Counters::default();
    sweep_once(&rig, &config(), &counters).await;
    let swept = counters.snapshot();
    assert!(
        swept.records_swept >= 120,
        "60 codes and 60 grants: {}",
        swept.records_swept
    );
    assert_eq!(swept.clients_expired, 1, "the one that was never used");
    assert!(rig.store.scan::<Due>(b"", None, 10).await.unwrap().records.is_empty());
    assert!(rig.store.scan::<Code>(b"", None, 10).await.unwrap().records.is_empty());
    assert!(rig.store.scan::<Grant>(b"", None, 10).await.unwrap().records.is_empty());
    assert_eq!(rig.store.next_anchored(None).await.unwrap(), None);
}

#[tokio::test]
async fn a_client_that_obtained_a_token_for_itself_is_kept() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let made = alice
        .register(&json!({
            "grant_types": ["client_credentials"], "token_endpoint_auth_method": "client_secret_post",
        }))
        .await;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let ask = |secret: &str| {
        form(&[
            ("grant_type", "client_credentials"),
            ("client_id", &id),
            ("client_secret", secret),
            ("resource", RESOURCE),
        ])
    };
    let unused = || async {
        rig.store
            .scan::<UnusedUntil>(b"", None, 10)
            .await
            .unwrap()
            .records
            .len()
    };
    let wrong = alice.send(Method::POST, "/token", &[FORM], ask("wrong")).await;
    assert_eq!((wrong.status, unused().await), (StatusCode::UNAUTHORIZED, 1));
    let right = alice.send(Method::POST, "/token", &[FORM], ask(&secret)).await;
    assert_eq!((right.status, unused().await), (StatusCode::OK, 0), "{}", right.text);
    rig.seconds.fetch_add(2 * DAY, Relaxed);
    assert_eq!(sweep::clients(&rig.store, rig.now()).await.unwrap(), 0);
    let again = alice.send(Method::POST, "/token", &[FORM], ask(&secret)).await;
    assert_eq!(again.status, StatusCode::OK, "{}", again.text);
}

/// A client of alice's, and the headers and path by which she manages it.
async fn managed(alice: &mut Client) -> (String, String, String) {
    let made = alice.register(&public_client()).await;
    let id = text(&made, "client_id");
    let bearer = format!("Bearer {}", text(&made, "registration_access_token"));
    (id.clone(), bearer, format!("/register/{id}"))
}

#[tokio::test]
async fn a_deleted_client_takes_its_grants_codes_and_tokens_along() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let (id, bearer, path) = managed(&mut alice).await;
    let redeemed = code(&mut alice, &id, &[("scope", "openid")]).await;
    let tokens = redeem(&mut alice, &id, &redeemed).await;
    let access = format!("Bearer {}", text(&tokens, "access_token"));
    let pending = code(&mut alice, &id, &[]).await;
    let shown = page(&mut alice, &id, &[]).await;
    let auth = [("authorization", bearer.as_str())];
    let gone = alice.send(Method::DELETE, &path, &auth, "").await;
    assert_eq!((gone.status, gone.text.as_str()), (StatusCode::NO_CONTENT, ""));

    assert_eq!(rig.counters().records_ended, 0, "nothing has to be written");
    let info = alice
        .send(Method::GET, "/userinfo", &[("authorization", &access)], "")
        .await;
    assert_eq!(info.status, StatusCode::UNAUTHORIZED);
    for answer in [
        refresh(&mut alice, &id, &text(&tokens, "refresh_token")).await,
        redeem(&mut alice, &id, &pending).await,
    ] {
        assert_eq!(answer.json()["error"], "invalid_client", "{}", answer.text);
    }
    let click = flow::click(&mut alice, &shown, &flow::OURS).await;
    assert_eq!(click.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_replaced_client_that_an_administrator_published_is_its_owners_alone() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut bob = rig.client(&Node::user(2, "bob", &[flow::ALL])).await;
    let (id, bearer, path) = managed(&mut alice).await;
    assert!(rig.server.publish(&id, true, "root").await.unwrap());
    let mut tokens = Vec::new();
    for client in [&mut alice, &mut bob] {
        let code = code(client, &id, &[]).await;
        tokens.push(text(&redeem(client, &id, &code).await, "refresh_token"));
    }
    let mut body = public_client();
    body["client_id"] = json!(id);
    body["client_name"] = json!("Claude Code, really");
    let put = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = alice.send(Method::PUT, &path, &put, body.to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(refresh(&mut alice, &id, &tokens[0]).await.status, StatusCode::OK);
    assert_eq!(
        refresh(&mut bob, &id, &tokens[1]).await.json()["error"],
        "invalid_grant"
    );
}

#[tokio::test]
async fn a_client_that_gave_up_a_grant_type_cannot_use_it_any_more() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let (id, bearer, path) = managed(&mut alice).await;
    let code = code(&mut alice, &id, &[]).await;
    let token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    let mut body = public_client();
    body["client_id"] = json!(id);
    body["grant_types"] = json!(["authorization_code"]);
    let put = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    assert_eq!(
        alice.send(Method::PUT, &path, &put, body.to_string()).await.status,
        StatusCode::OK
    );
    let answer = refresh(&mut alice, &id, &token).await;
    assert_eq!(answer.json()["error"], "unauthorized_client", "{}", answer.text);
}
