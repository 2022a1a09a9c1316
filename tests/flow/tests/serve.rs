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

/// A form, posted to the server at `idp.tailnet.test`.
fn post(path: &str, form: &str, headers: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: idp.tailnet.test\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\nConnection: close\r\n{headers}\r\n{form}",
        form.len()
    )
}

fn between(text: &str, before: &str, after: &str) -> String {
    let rest = text.split(before).nth(1).unwrap_or_else(|| panic!("{before}: {text}"));
    rest.split(after).next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one flow, all whose secrets are looked for")]
async fn a_log_at_trace_holds_no_secret_code_or_token() {
    const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    const CHALLENGE: &str = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM";
    let scene = Scene::new().await;
    let key = scene.key_file(AuthKeySpec::tags(TAG));
    let auth_key = std::fs::read_to_string(&key).unwrap();
    let log = scene.path("trace.log");
    let mut flags = scene.flags("idp");
    flags.extend(["--auth-key-file", &key.display().to_string(), "--log", "trace"].map(str::to_owned));
    let served = Served::start_logging(&scene.path(""), &flags, std::fs::File::create(&log).unwrap().into());
    served.notifications.wait_for("READY=1");
    let alice = scene.person("alice", ALICE).await;

    let body = r#"{"redirect_uris":["http://127.0.0.1/callback"],"token_endpoint_auth_method":"client_secret_post",
        "grant_types":["authorization_code","refresh_token"]}"#;
    let made = ask(
        &alice,
        "idp",
        &post("/register", body, "").replace("application/x-www-form-urlencoded", "application/json"),
    )
    .await;
    let (id, secret) = (
        between(&made, "\"client_id\":\"", "\""),
        between(&made, "\"client_secret\":\"", "\""),
    );
    let management = between(&made, "\"registration_access_token\":\"", "\"");
    let form = format!(
        "response_type=code&client_id={id}&scope=openid&code_challenge={CHALLENGE}&code_challenge_method=S256\
         &redirect_uri=http%3A%2F%2F127.0.0.1%2Fcallback"
    );
    let page = ask(&alice, "idp", &post("/authorize", &form, "")).await;
    let ticket = between(&page, "name=\"ticket\" value=\"", "\"");
    let cookie = between(&page, "set-cookie: ", ";");
    let ours = format!("Origin: http://idp.tailnet.test\r\nCookie: {cookie}\r\n");
    let click = format!("ticket={ticket}&choice=allow");
    let answer = ask(&alice, "idp", &post("/authorize/consent", &click, &ours)).await;
    let code = between(&answer, "code=", "&");
    let client = format!("client_id={id}&client_secret={secret}");
    let form = format!("{client}&grant_type=authorization_code&code={code}&code_verifier={VERIFIER}");
    let tokens = ask(&alice, "idp", &post("/token", &form, "")).await;
    let [access, id_token, refresh] =
        ["access_token", "id_token", "refresh_token"].map(|name| between(&tokens, &format!("\"{name}\":\""), "\""));
    let form = format!("{client}&grant_type=refresh_token&refresh_token={refresh}");
    let again = ask(&alice, "idp", &post("/token", &form, "")).await;
    let successor = between(&again, "\"refresh_token\":\"", "\"");
    ask(
        &alice,
        "idp",
        &post("/userinfo", "", &format!("Authorization: Bearer {access}\r\n")),
    )
    .await;
    ask(
        &alice,
        "idp",
        &post("/revoke", &format!("{client}&token={refresh}"), ""),
    )
    .await;
    assert_eq!(served.stop_quietly().await, Some(0));

    let log = std::fs::read_to_string(log).unwrap();
    assert!(
        log.contains("TRACE") && log.contains("tokens issued"),
        "{} bytes",
        log.len()
    );
    let cookie = cookie.split_once('=').unwrap().1.to_owned();
    for (what, secret) in [
        ("the pre-auth key", auth_key.trim().to_owned()),
        ("the client secret", secret),
        ("the registration token", management),
        ("the ticket", ticket),
        ("the cookie", cookie),
        ("the code", code),
        ("the verifier", VERIFIER.to_owned()),
        ("the access token", access),
        ("the id_token", id_token),
        ("the refresh token", refresh),
        ("its successor", successor),
    ] {
        assert!(secret.len() >= 20, "{what}: {secret}");
        let at = log.find(&secret).map(|at| &log[log[..at].rfind('\n').unwrap_or(0)..at]);
        assert_eq!(at, None, "{what} is in the log, after this");
    }
}
