//! The forms of `/me` and logout: nothing of one is stored until it is answered, and each is answered once.

use countersign_oauth::form::SpentForm;
use countersign_store::{Due, Record, Txn};

use super::{
    flow::{FORM, OURS, alice, field, form, page, registered},
    session::Browser,
    *,
};

/// Everything ends, for a person who has nothing here.
const EVERYTHING: [(&str, &str); 2] = [("end", "everything"), ("name", "")];
const LEAVE: [(&str, &str); 1] = [("choice", "leave")];

/// The number of the commit that this makes.
async fn commit(rig: &Rig) -> u64 {
    let mut txn = Txn::new();
    txn.count("probe", 1, None);
    rig.store.commit(txn).await.unwrap().sequence
}

async fn stored<R: Record>(rig: &Rig) -> usize {
    rig.store.scan::<R>(b"", None, 1000).await.unwrap().records.len()
}

#[tokio::test]
async fn a_script_that_opens_pages_without_end_keeps_nobody_from_his_own() {
    let rig = Rig::start(config()).await;
    let node = alice();
    // So that the last key which is made after a start is not counted.
    rig.server.app().keys.signer(SigningAlg::Rs256).await.unwrap();
    let mut script = rig.client(&node).await;
    let before = commit(&rig).await;
    for _ in 0..250 {
        for path in ["/me", "/logout"] {
            let shown = script.get(path).await;
            assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        }
    }
    assert_eq!(
        (commit(&rig).await, stored::<Due>(&rig).await),
        (before + 1, 0),
        "a page is no record"
    );
    let mut browser = Browser::of(&rig, &node).await;
    let me = browser.open("/me").await;
    let done = browser.click("/me", &me, &EVERYTHING).await;
    assert_eq!(done.status, StatusCode::SEE_OTHER, "{}", done.text);
    let question = browser.open("/logout").await;
    let left = browser.click("/logout/answer", &question, &LEAVE).await;
    assert_eq!(left.status, StatusCode::OK, "{}", left.text);
}

#[tokio::test]
async fn a_form_is_answered_once_within_ten_minutes_and_then_forgotten() {
    let rig = Rig::start(config()).await;
    let mut browser = Browser::of(&rig, &alice()).await;
    for (path, action, answer) in [("/me", "/me", &EVERYTHING[..]), ("/logout", "/logout/answer", &LEAVE)] {
        let (first, late) = (browser.open(path).await, browser.open(path).await);
        let cookies = browser.cookies.clone();
        rig.seconds.fetch_add(599, Relaxed);
        let done = browser.click(action, &first, answer).await;
        assert!(!done.status.is_client_error(), "{}", done.text);
        // As somebody who kept the cookie, also when the sweep has come by.
        sweep::ended(&rig.store, rig.now()).await.unwrap();
        browser.cookies = cookies;
        let again = browser.click(action, &first, answer).await;
        assert_eq!(again.status, StatusCode::BAD_REQUEST);
        assert!(again.text.contains("was answered already"), "{}", again.text);
        rig.seconds.fetch_add(1, Relaxed);
        for page in [&first, &late] {
            assert_eq!(
                browser.click(action, page, answer).await.status,
                StatusCode::BAD_REQUEST
            );
        }
        sweep::ended(&rig.store, rig.now()).await.unwrap();
        assert_eq!((stored::<SpentForm>(&rig).await, stored::<Due>(&rig).await), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_answers_at_once_one_counts() {
    let rig = Arc::new(Rig::start(config()).await);
    let node = alice();
    for (path, action, answer) in [("/me", "/me", &EVERYTHING[..]), ("/logout", "/logout/answer", &LEAVE)] {
        for _ in 0..10 {
            let shown = rig.client(&node).await.get(path).await;
            let ticket = field(&shown.text, "name=\"ticket\" value=\"", '"');
            let body = [&[("ticket", ticket)], answer].concat();
            let (body, cookie) = (form(&body), shown.header("set-cookie").split(';').next().unwrap());
            let mut answers = tokio::task::JoinSet::new();
            for _ in 0..4 {
                let (rig, node, body, cookie) = (Arc::clone(&rig), node.clone(), body.clone(), cookie.to_owned());
                answers.spawn(async move {
                    let headers = [FORM, OURS[0], ("cookie", cookie.as_str())];
                    rig.client(&node)
                        .await
                        .send(Method::POST, action, &headers, body)
                        .await
                        .status
                });
            }
            let answers = answers.join_all().await;
            let counted = answers.iter().filter(|status| !status.is_client_error());
            assert_eq!(counted.count(), 1, "{answers:?}");
        }
    }
}

#[tokio::test]
async fn a_form_survives_a_restart_and_its_server_only() {
    let (store, nodes, node) = (Store::in_memory().unwrap(), Nodes::new(), alice());
    let rig = Rig::with(config(), store.clone(), nodes.clone()).await;
    let mut browser = Browser::of(&rig, &node).await;
    let (kept, other) = (browser.open("/logout").await, browser.open("/logout").await);
    let cookies = browser.cookies.clone();
    drop(browser);
    rig.stop.cancel();
    rig.task.await.unwrap().unwrap();

    let rig = Rig::with(config(), store, nodes).await;
    for (rig, page, expected) in [
        (&rig, &kept, StatusCode::OK),
        (&Rig::start(config()).await, &other, StatusCode::BAD_REQUEST),
    ] {
        let mut browser = Browser::of(rig, &node).await;
        browser.cookies = cookies.clone();
        let answer = browser.click("/logout/answer", page, &LEAVE).await;
        assert_eq!(answer.status, expected, "{}", answer.text);
    }
}

/// One key seals them all.
#[tokio::test]
async fn a_form_is_no_consent_page_and_a_consent_page_no_form() {
    let rig = Rig::start(config()).await;
    let mut client = rig.client(&alice()).await;
    let id = registered(&mut client).await;
    let consent = page(&mut client, &id, &[]).await;
    let me = flow::held_page(&client.get("/me").await);
    for (page, action, answer) in [
        (&me, "/authorize/consent", &[("choice", "allow")][..]),
        (&consent, "/me", &EVERYTHING),
        (&consent, "/logout/answer", &LEAVE),
    ] {
        let body = form(&[&[("ticket", page.ticket.as_str())], answer].concat());
        let headers = [FORM, OURS[0], ("cookie", page.cookie.as_str())];
        let refused = client.send(Method::POST, action, &headers, body).await;
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{action}");
        assert!(refused.text.contains("was answered already"), "{}", refused.text);
    }
}
