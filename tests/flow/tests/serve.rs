//! `countersign serve` as a process: how it comes up, what it tells whom, and how it ends.

use countersign_flow_tests::{ALICE, BOB, Scene, Served, ask, countersign, registration};
use tailnet_testkit::AuthKeySpec;

const TAG: &[&str] = &["tag:internal-idp"];

fn serve(scene: &Scene, state: &str, more: &[&str]) -> Served {
    let mut flags = scene.flags(state);
    flags.extend(more.iter().map(ToString::to_string));
    Served::start(&scene.path(""), &flags)
}

fn serve_with_key(scene: &Scene, state: &str, spec: AuthKeySpec, more: &[&str]) -> Served {
    let key = scene.key_file(spec).display().to_string();
    serve(scene, state, &[&["--auth-key-file", &key], more].concat())
}

#[tokio::test(flavor = "multi_thread")]
async fn it_serves_alice_refuses_bob_and_ends_in_order() {
    let scene = Scene::new().await;
    let served = serve_with_key(&scene, "idp", AuthKeySpec::tags(TAG), &[]);
    let ready = served.notifications.wait_for("READY=1");
    assert!(ready.contains("STATUS=serving http://idp.tailnet.test"), "{ready}");

    let status = served.status().await;
    assert_eq!(status["state"], "serving");
    assert_eq!(status["issuer"], "http://idp.tailnet.test");
    assert_eq!(status["node"]["name"], "idp.tailnet.test");
    assert_eq!(status["node"]["tags"][0], "tag:internal-idp");
    assert_eq!(status["control"]["connected"], true);
    assert!(status["ready_after_ms"].as_u64().unwrap() < 10_000);

    let (alice, bob) = tokio::join!(scene.person("alice", ALICE), scene.person("bob", BOB));
    let metadata =
        "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: idp.tailnet.test\r\nConnection: close\r\n\r\n";
    let answer = ask(&alice, "idp", metadata).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("http://idp.tailnet.test/register"), "{answer}");
    let answer = ask(&alice, "idp", &registration("idp.tailnet.test")).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    let answer = ask(&bob, "idp", &registration("idp.tailnet.test")).await;
    assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");

    let status = served.status().await;
    assert_eq!(status["counters"]["requests_register_ok"], 1);
    assert_eq!(status["counters"]["requests_register_refused"], 1);
    assert_eq!(status["peers"].as_array().unwrap().len(), 2);
    let ca = served.beside(&["ca"]).await;
    assert_eq!(ca.status.code(), Some(1), "with tls = off there is no root");

    served.signal("HUP");
    served.notifications.wait_for("RELOADING=1");
    served.notifications.wait_for("READY=1");
    served.signal("TERM");
    served.notifications.wait_for("STOPPING=1");
    let (code, log) = served.ended().await;
    assert_eq!(code, Some(0), "{log}");
    assert!(
        log.contains("user=\"alice@example.com\"") && log.contains("decision=\"allowed\""),
        "{log}"
    );
    assert!(
        log.contains("user=\"bob@example.com\"") && log.contains("decision=\"refused\""),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_is_the_same_node_and_needs_no_key() {
    let scene = Scene::new().await;
    let served = serve_with_key(&scene, "idp", AuthKeySpec::tags(TAG), &[]);
    let before = served.status().await;
    served.signal("KILL");
    served.ended().await;
    let served = serve(&scene, "idp", &[]);
    let after = served.status().await;
    assert_eq!(before["node"]["stable_id"], after["node"]["stable_id"]);
    assert_eq!(before["node"]["addresses"], after["node"]["addresses"]);
    assert_eq!(served.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_tailnet_refuses_ends_with_5_and_one_line() {
    let scene = Scene::new().await;
    let cases = [
        (AuthKeySpec::tags(&["tag:other"]), "did not grant tag:internal-idp"),
        (AuthKeySpec::user(ALICE), "did not grant tag:internal-idp"),
        (AuthKeySpec::tags(TAG).valid_for(-time::Duration::hours(1)), "expired"),
    ];
    for (number, (spec, text)) in cases.into_iter().enumerate() {
        let (code, log) = serve_with_key(&scene, &format!("idp{number}"), spec, &[]).ended().await;
        assert_eq!(code, Some(5), "{log}");
        let error = log.lines().last().unwrap();
        assert!(error.contains("ERROR") && error.contains(text), "{log}");
        assert!(!log.contains("ready: serving"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_folder_serves_one_process() {
    let scene = Scene::new().await;
    let first = serve_with_key(&scene, "idp", AuthKeySpec::tags(TAG), &[]);
    first.status().await;
    let flags = scene.flags("idp");
    let second = countersign([&["serve".to_owned()], flags.as_slice()].concat()).await;
    assert_eq!(second.status.code(), Some(1));
    let error = String::from_utf8_lossy(&second.stderr);
    assert!(error.contains("in use by another countersign (pid "), "{error}");
    let change = first
        .beside(&["issuer", "change", "http://else.tailnet.test", "--yes"])
        .await;
    assert_eq!(change.status.code(), Some(1), "not while it runs");
    assert_eq!(first.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_node_does_not_serve_until_a_person_decides() {
    let scene = Scene::new().await;
    let served = serve_with_key(&scene, "idp", AuthKeySpec::tags(TAG), &[]);
    served.status().await;
    assert_eq!(served.stop().await.0, Some(0));
    let node = scene.tailnet.node("idp").unwrap();
    scene.tailnet.rename_node(node.id, "idp-1").unwrap();

    let (code, log) = serve(&scene, "idp", &[]).ended().await;
    assert_eq!(code, Some(5), "{log}");
    assert!(log.contains("would now be http://idp-1.tailnet.test"), "{log}");
    assert!(log.contains("countersign issuer change"), "{log}");

    let state_dir = scene.path("idp").display().to_string();
    let change = [
        "issuer",
        "change",
        "http://idp-1.tailnet.test",
        "--state-dir",
        &state_dir,
    ];
    let shown = countersign(change).await;
    assert!(
        String::from_utf8_lossy(&shown.stdout).contains("Nothing was changed"),
        "{shown:?}"
    );
    assert_eq!(serve(&scene, "idp", &[]).ended().await.0, Some(5));
    let changed = countersign(change.iter().chain(&["--yes"])).await;
    assert_eq!(changed.status.code(), Some(0), "{changed:?}");
    let served = serve(&scene, "idp", &[]);
    assert_eq!(served.status().await["issuer"], "http://idp-1.tailnet.test");
    assert_eq!(served.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_url_is_shown_and_followed() {
    let scene = Scene::new().await;
    let served = serve(&scene, "idp", &["--tags", ""]);
    let word = served.notifications.wait_for("to admit this node, open ");
    let waiting = served.beside(&["status", "--json"]).await;
    assert_eq!(waiting.status.code(), Some(3), "running but not ready");
    let status: serde_json::Value = serde_json::from_slice(&waiting.stdout).unwrap();
    assert_eq!(status["state"], "needs-login");
    let url = status["login_url"].as_str().unwrap();
    assert!(word.contains(url), "{word} has {url}");
    scene.tailnet.approve_login(url, ALICE).unwrap();
    served.notifications.wait_for("READY=1");
    assert_eq!(served.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn control_out_of_reach_is_waited_for_and_said() {
    let scene = Scene::new().await;
    scene.tailnet.refuse_requests(Some(503));
    let served = serve_with_key(&scene, "idp", AuthKeySpec::tags(TAG), &[]);
    let waiting = served.beside(&["status", "--json", "--wait", "1"]).await;
    assert_eq!(waiting.status.code(), Some(3));
    let status: serde_json::Value = serde_json::from_slice(&waiting.stdout).unwrap();
    assert!(
        status["problem"].as_str().is_some_and(|text| text.contains("503")),
        "{status}"
    );
    scene.tailnet.refuse_requests(None);
    served.notifications.wait_for("READY=1");
    assert_eq!(served.stop().await.0, Some(0));
}
