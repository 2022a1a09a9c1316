//! `countersign policy explain` and `countersign client` beside a running server, with real nodes behind it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use countersign_flow_tests::{ALICE, BOB, PATIENCE, Scene, Served, ask, registration};
use serde_json::{Value, json};
use tailnet_testkit::AuthKeySpec;

async fn json(served: &Served, args: &[&str]) -> Value {
    let output = served.beside(args).await;
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn step<'a>(explanation: &'a Value, kind: &str) -> &'a Value {
    let steps = explanation["steps"].as_array().unwrap();
    steps.iter().find(|step| step["kind"] == kind).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, and a server takes long to start")]
async fn an_administrator_on_the_server_asks_who_may_what_and_publishes_a_client() {
    let scene = Scene::new().await;
    let key = scene
        .key_file(AuthKeySpec::tags(&["tag:internal-idp"]))
        .display()
        .to_string();
    let mut flags = scene.flags("idp");
    flags.extend(["--auth-key-file".to_owned(), key]);
    let served = Served::start(&scene.path(""), &flags);
    served.status().await;
    let (alice, _bob) = tokio::join!(scene.person("alice", ALICE), scene.person("bob", BOB));
    let answer = ask(&alice, "idp", &registration("idp.tailnet.test")).await;
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");

    let listed = json(&served, &["client", "list", "--json"]).await;
    let id = listed["clients"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&listed["clients"][0]["user"], &listed["clients"][0]["published"]),
        (&ALICE.into(), &Value::Null)
    );

    let about_bob = ["policy", "explain", "--user", BOB, "--client", &id, "--json"];
    let told = json(&served, &about_bob).await;
    assert_eq!((&told[0]["user"], &told[0]["allowed"]), (&BOB.into(), &false.into()));
    assert_eq!(step(&told[0], "registration")["allowed"], false);
    let remedy = &step(&told[0], "client")["remedies"][0]["add"];
    assert_eq!(*remedy, format!("countersign client publish {id}"));
    let about_alice = json(
        &served,
        &["policy", "explain", "--node", "alice", "--client", &id, "--json"],
    )
    .await;
    assert_eq!(about_alice[0]["allowed"], true);
    assert_eq!(step(&about_alice[0], "registration")["rule"]["number"], 1);

    let published = served.beside(&["client", "publish", &id]).await;
    assert_eq!(published.status.code(), Some(0), "{published:?}");
    let told = json(&served, &about_bob).await;
    assert_eq!(told[0]["allowed"], true, "{told}");
    let why = step(&told[0], "client")["why"].as_str().unwrap();
    assert!(why.contains("on the server published it"), "{why}");
    let text = served.beside(&about_bob[..6]).await;
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(
        text.starts_with("ALLOWED: bob@example.com on bob.tailnet.test"),
        "{text}"
    );
    let unpublished = served.beside(&["client", "unpublish", &id]).await;
    assert!(
        String::from_utf8_lossy(&unpublished.stdout).contains("its owner's alone"),
        "{unpublished:?}"
    );
    assert_eq!(json(&served, &about_bob).await[0]["allowed"], false);

    let nobody = served
        .beside(&["policy", "explain", "--user", "nobody@example.com"])
        .await;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nobody.stderr).contains("shows this server no node of nobody@example.com"),
        "{nobody:?}"
    );
    assert_eq!(
        served.beside(&["policy", "explain"]).await.status.code(),
        Some(2),
        "about whom?"
    );
    assert_eq!(served.stop().await.0, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_cannot_be_read_is_in_the_log_when_it_arrives_and_explained() {
    let scene = Scene::new().await;
    let key = scene
        .key_file(AuthKeySpec::tags(&["tag:internal-idp"]))
        .display()
        .to_string();
    let mut flags = scene.flags("idp");
    flags.extend(["--auth-key-file".to_owned(), key]);
    let served = Served::start(&scene.path(""), &flags);
    served.status().await;
    let _alice = scene.person("alice", ALICE).await;
    let about_alice = ["policy", "explain", "--user", ALICE, "--json"];
    assert_eq!(json(&served, &about_alice).await[0]["allowed"], true);
    let broken = r#"{"tagOwners": {"tag:internal-idp": ["alice@example.com"]}, "grants": [
        {"src": ["*"], "dst": ["*"], "ip": ["*"], "app": {"tailscale.com/cap/tsidp": [{"users": ["*"], "deny": true}]}}]}"#;
    scene.tailnet.set_policy(broken).unwrap();
    let refused = async {
        loop {
            let told = json(&served, &about_alice).await;
            if told[0]["allowed"] == false {
                break told;
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, refused).await.unwrap();
    let login = step(&told[0], "login");
    assert!(
        login["why"].as_str().unwrap().contains("`deny` stands beside"),
        "{login}"
    );
    assert_eq!(login["remedies"][0]["change"]["deny"], true);
    let (code, log) = served.stop().await;
    assert_eq!(code, Some(0));
    let said: Vec<&str> = log.lines().filter(|line| line.contains("cannot be read")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(
        said[0].contains("ERROR") && said[0].contains("`deny` stands beside"),
        "{}",
        said[0]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tags_is_named_by_its_addresses_and_what_it_tells_to_write_helps() {
    let scene = Scene::new().await;
    let key = scene.key_file(AuthKeySpec::user(ALICE)).display().to_string();
    let mut flags = scene.flags("idp");
    flags.extend(["--auth-key-file", &key, "--tags", ""].map(str::to_owned));
    let served = Served::start(&scene.path(""), &flags);
    let status = served.status().await;
    assert_eq!(status["node"]["tags"], json!([]));
    let bob = scene.person("bob", BOB).await;
    let refused = ask(&bob, "idp", &registration("idp.tailnet.test")).await;
    assert!(refused.starts_with("HTTP/1.1 403"), "{refused}");
    let body: Value = serde_json::from_str(refused.split_once("\r\n\r\n").unwrap().1).unwrap();
    let grant = &body["remedies"][0]["add"];
    assert_eq!(grant["dst"], status["node"]["addresses"], "{body}");
    let told = json(&served, &["policy", "explain", "--user", BOB, "--json"]).await;
    assert_eq!(step(&told[0], "registration")["remedies"][0]["add"], *grant);

    let everybody = json!({ "src": ["*"], "dst": ["*"], "ip": ["*"] });
    let policy = json!({ "grants": [everybody, grant] });
    scene.tailnet.set_policy(&policy.to_string()).unwrap();
    let registered = async {
        while !ask(&bob, "idp", &registration("idp.tailnet.test"))
            .await
            .starts_with("HTTP/1.1 201")
        {}
    };
    tokio::time::timeout(PATIENCE, registered)
        .await
        .expect("the rule that was told");
    assert_eq!(served.stop().await.0, Some(0));
}
