//! A grant is one record: what using it writes, who finds it, and when it is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use countersign_oauth::{
    assertion::Spent,
    client::Client as OauthClient,
    form::SpentForm,
    grant::{Code, Grant, GrantId, NodeTag},
    opaque::OpaqueToken,
    par::Pushed,
    remembered::Remembered,
    session::Session,
    subject::Subject,
};
use countersign_store::{ByOwner, Due, Record, Txn, UnusedUntil};

use super::{
    flow::{ALL, FORM, OURS, RESOURCE, alice, code, field, form, redeem, refresh, registered, text},
    *,
};

const MINUTE: i64 = 60;
const TO_MCP: [(&str, &str); 1] = [("resource", RESOURCE)];

async fn stored<R: Record>(rig: &Rig) -> Vec<R> {
    rig.store.scan::<R>(b"", None, 100_000).await.unwrap().records
}

/// How many records there are of every kind, entries of the index and audit records included.
async fn counts(rig: &Rig) -> BTreeMap<&'static str, i64> {
    async fn of<R: Record>(rig: &Rig) -> (&'static str, i64) {
        (R::TABLE, stored::<R>(rig).await.len() as i64)
    }
    let (mut nodes, mut last) = (BTreeSet::new(), None);
    while let Some(next) = rig.store.next_anchored(last.as_ref()).await.unwrap() {
        nodes.insert(next.node.clone());
        last = Some(next);
    }
    let mut entries = 0;
    for node in nodes {
        entries += rig.store.resting_on(&node, None, 1000).await.unwrap().len() as i64;
    }
    BTreeMap::from([
        of::<OauthClient>(rig).await,
        of::<ByOwner>(rig).await,
        of::<UnusedUntil>(rig).await,
        of::<SpentForm>(rig).await,
        of::<Code>(rig).await,
        of::<Grant>(rig).await,
        of::<Spent>(rig).await,
        of::<Pushed>(rig).await,
        of::<OpaqueToken>(rig).await,
        of::<Session>(rig).await,
        of::<Remembered>(rig).await,
        of::<Due>(rig).await,
        ("resting", entries),
        ("audit", i64::try_from(rig.store.audit_count().await.unwrap()).unwrap()),
    ])
}

/// What became more between two counts.
fn grown(before: &BTreeMap<&'static str, i64>, after: &BTreeMap<&'static str, i64>) -> BTreeMap<&'static str, i64> {
    let change = after.iter().map(|(table, count)| (*table, count - before[table]));
    change.filter(|(_, change)| *change > 0).collect()
}

/// Grants like the only one there is, one for each node, written at once.
async fn multiplied(rig: &Rig, nodes: &[Node], change: impl Fn(usize, &mut Grant)) {
    let like = stored::<Grant>(rig).await.remove(0);
    for (chunk, nodes) in nodes.chunks(500).enumerate() {
        let mut txn = Txn::new();
        for (index, node) in nodes.iter().enumerate() {
            let index = chunk * 500 + index;
            let mut grant = like.clone();
            let holder = node.facts.lock();
            grant.id = GrantId::of(NodeTag::of(&holder.node_id), &(index as u128 + 1).to_be_bytes());
            grant.authorization.subject = Subject::of(&holder);
            grant.node_id = holder.node_id.clone();
            change(index, &mut grant);
            txn.put(&grant).unwrap();
        }
        rig.store.commit(txn).await.unwrap();
    }
}

/// A rig with one grant of alice's, and its refresh token.
async fn granted(node: &Node) -> (Rig, Client, String, String) {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    let token = text(&redeem(&mut alice, &id, &code).await, "refresh_token");
    (rig, alice, id, token)
}

#[tokio::test]
async fn a_redeemed_code_leaves_one_record_and_one_audit_record_and_a_refresh_none() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    let before = counts(&rig).await;
    let redeemed = redeem(&mut alice, &id, &code).await;
    let after = counts(&rig).await;
    assert_eq!(grown(&before, &after), BTreeMap::from([("audit", 1), ("grant", 1)]));
    assert_eq!((before["code"], after["code"]), (1, 0));
    assert_eq!(after["resting"], before["resting"], "a code is one record as well");
    assert_eq!(after["due"], before["due"]);

    let first = stored::<Grant>(&rig).await;
    assert_eq!(first[0].id.tag(), NodeTag::of("nalice").to_text());
    let mut token = text(&redeemed, "refresh_token");
    for _ in 0..40 {
        let refreshed = refresh(&mut alice, &id, &token).await;
        assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.text);
        token = text(&refreshed, "refresh_token");
        // Beyond the window in which a spent token gives its successor.
        rig.seconds.fetch_add(10 * MINUTE, Relaxed);
    }
    assert_eq!(counts(&rig).await, after);
    let last = stored::<Grant>(&rig).await;
    assert_eq!(last.len(), 1);
    assert_eq!(
        last[0].refresh.as_ref().unwrap().spent.len(),
        1,
        "the record does not grow"
    );
}

#[tokio::test]
async fn a_refresh_token_in_the_hands_of_another_client_ends_nothing() {
    let (_rig, mut alice, id, token) = granted(&alice()).await;
    let other = registered(&mut alice).await;
    let revoke = form(&[("client_id", &other), ("token", &token)]);
    let answer = alice.send(Method::POST, "/revoke", &[FORM], revoke).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!(
        refresh(&mut alice, &other, &token).await.json()["error"],
        "invalid_grant"
    );
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_code_redeemed_elsewhere_has_an_entry_for_that_node_only() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let phone = Node::new(Caller {
        node_id: "nphone".into(),
        ..flow::alice().facts.lock().clone()
    });
    let mut phone = rig.client(&phone).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    let answer = redeem(&mut phone, &id, &code).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let on = async |node: &str| rig.store.resting_on(node, None, 10).await.unwrap();
    let entry = &on("nphone").await[0];
    assert_eq!(entry.id, stored::<Grant>(&rig).await[0].id.as_str());
    let revoke = form(&[("client_id", &id), ("token", &text(&answer, "refresh_token"))]);
    phone.send(Method::POST, "/revoke", &[FORM], revoke).await;
    assert!(stored::<Grant>(&rig).await[0].revoked);
    assert_eq!(on("nphone").await, [], "nothing of it is left to end");
}

#[tokio::test]
async fn a_public_clients_code_is_redeemed_at_the_places_that_it_lists_and_nowhere_else() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let tagged = |node: &str, tag: &str| {
        Node::new(Caller {
            node_id: node.into(),
            who: Who::Tagged(vec![tag.into()]),
            ..flow::alice().facts.lock().clone()
        })
    };
    let mut metadata = public_client();
    metadata["redeem_from"] = json!(["tag:app"]);
    let made = alice.register(&metadata).await;
    assert_eq!(made.json()["redeem_from"], json!(["tag:app"]), "{}", made.text);
    let id = text(&made, "client_id");
    let code = code(&mut alice, &id, &TO_MCP).await;
    let mut stranger = rig.client(&tagged("nother", "tag:other")).await;
    let refused = redeem(&mut stranger, &id, &code).await;
    assert_eq!(refused.json()["error"], "invalid_grant");
    let audit = rig.store.audit(None, 100).await.unwrap();
    let of_stranger = |line: &str| line.contains("token_refused") && line.contains("nother");
    assert!(audit.iter().any(|(_, line)| of_stranger(line)), "{audit:?}");
    let mut server = rig.client(&tagged("nserver", "tag:app")).await;
    let redeemed = redeem(&mut server, &id, &code).await;
    assert_eq!(redeemed.status, StatusCode::OK, "{}", redeemed.text);
    let token = text(&redeemed, "refresh_token");
    assert_eq!(
        refresh(&mut alice, &id, &token).await.json()["error"],
        "invalid_grant",
        "bound to the node that redeemed"
    );
    assert_eq!(refresh(&mut server, &id, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_many_holders_have_ends_through_the_tags_of_their_nodes() {
    const HOLDERS: usize = 700;
    let (rig, mut alice, id, token) = granted(&alice()).await;
    let holders: Vec<_> = (0..HOLDERS)
        .map(|index| Node::user(1000 + index as i64, &format!("u{index}"), &[ALL]))
        .collect();
    holders.iter().for_each(|node| rig.nodes.add(node));
    multiplied(&rig, &holders, |_, _| {}).await;
    rig.nodes.announce();
    tokio::time::sleep(Duration::from_millis(50)).await;
    for (index, node) in holders.iter().enumerate() {
        match index % 3 {
            0 => node.facts.lock().policy = Policy::default(),
            1 => rig.nodes.remove(node),
            _ => {}
        }
    }
    let lost = HOLDERS - HOLDERS / 3;
    rig.nodes.announce();
    let begun = std::time::Instant::now();
    while rig.counters().records_ended < lost as u64 {
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{}",
            rig.counters().records_ended
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let grants = stored::<Grant>(&rig).await;
    assert_eq!(grants.len(), HOLDERS + 1, "those that ended are marked");
    let live: BTreeSet<_> = grants
        .iter()
        .filter(|grant| !grant.revoked)
        .map(|grant| grant.authorization.subject.node_id.clone())
        .collect();
    let expected = (0..HOLDERS)
        .filter(|index| index % 3 == 2)
        .map(|index| format!("nu{index}"));
    assert_eq!(live, expected.chain(["nalice".to_owned()]).collect());
    let audit = rig.store.audit(None, 10_000).await.unwrap();
    assert_eq!(
        audit.iter().filter(|(_, line)| line.contains("grant_ended")).count(),
        lost
    );
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
}

#[tokio::test]
async fn two_nodes_that_share_a_tag_do_not_share_their_grants() {
    let alice_node = alice();
    let (rig, mut alice, id, token) = granted(&alice_node).await;
    let bob_node = Node::user(2, "bob", &[ALL]);
    rig.nodes.add(&bob_node);
    let nodes = [bob_node.clone(), bob_node.clone()];
    // Behind alice's, so that the search for holders meets her.
    let hers = stored::<Grant>(&rig).await.remove(0).id;
    let below_hers = (0..1_u128 << 20).map(|handle| GrantId::of(NodeTag::of("nalice"), &handle.to_be_bytes()));
    let behind: Vec<_> = below_hers.filter(|id| id.as_str() > hers.as_str()).take(2).collect();
    multiplied(&rig, &nodes, |index, grant| grant.id = behind[index].clone()).await;
    let live = async || {
        let grants = stored::<Grant>(&rig).await;
        let live = grants.iter().filter(|grant| !grant.revoked);
        live.map(|grant| grant.authorization.subject.node_id.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(live().await.len(), 3);

    let mine = alice.get("/me").await;
    assert_eq!(mine.text.matches("value=\"grant\"").count(), 1, "{}", mine.text);
    let ticket = field(&mine.text, "name=\"ticket\" value=\"", '"');
    let cookie = mine.header("set-cookie").split(';').next().unwrap();
    let body = form(&[("ticket", ticket), ("end", "everything"), ("name", "")]);
    let headers = [FORM, OURS[0], ("cookie", cookie)];
    assert_eq!(
        alice.send(Method::POST, "/me", &headers, body).await.status,
        StatusCode::SEE_OTHER
    );
    assert_eq!(refresh(&mut alice, &id, &token).await.json()["error"], "invalid_grant");
    assert_eq!(live().await, ["nbob", "nbob"]);

    bob_node.facts.lock().policy = Policy::default();
    // As when the netmap says something about the node that the search meets.
    alice_node.facts.lock().policy = Policy::parse([ALL, "{}"]);
    rig.nodes.announce();
    let begun = std::time::Instant::now();
    while !live().await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_long_list_of_grants_comes_in_pages_without_those_that_are_over() {
    let alice_node = alice();
    let (rig, mut alice, ..) = granted(&alice_node).await;
    let nodes: Vec<_> = (0..5)
        .map(|index| {
            let facts = alice_node.facts.lock().clone();
            Node::new(Caller {
                node_id: format!("n{index}"),
                ..facts
            })
        })
        .collect();
    nodes.iter().for_each(|node| rig.nodes.add(node));
    let holders: Vec<_> = (0..80).map(|index| nodes[index % 5].clone()).collect();
    let now = rig.now();
    multiplied(&rig, &holders, |index, grant| match index % 8 {
        0 => grant.revoked = true,
        1 => grant.expires_at = now,
        2 => grant.authorization.client = countersign_oauth::client::ClientId::from_request("gone"),
        _ => {}
    })
    .await;
    let (mut path, mut sizes, mut names) = ("/me".to_owned(), Vec::new(), BTreeSet::new());
    loop {
        let page = alice.get(&path).await;
        let forms = page
            .text
            .split("<form ")
            .filter(|form| form.contains("value=\"grant\""));
        let shown: Vec<_> = forms
            .map(|form| field(form, "name=\"name\" value=\"", '"').to_owned())
            .collect();
        sizes.push(shown.len());
        names.extend(shown);
        let Some(next) = page.text.split("href=\"/me?grants=").nth(1) else {
            break;
        };
        path = format!("/me?grants={}", next.split('"').next().unwrap());
    }
    assert_eq!((sizes, names.len()), (vec![20, 20, 11], 51));
    for nonsense in ["AA", "zz", "%FF", "_____________"] {
        let page = alice.get(&format!("/me?grants={nonsense}")).await;
        assert_eq!(page.status, StatusCode::OK, "{nonsense}");
    }
}

#[tokio::test]
async fn a_page_of_grants_looks_at_so_many_records_and_goes_on_behind_them() {
    let node = alice();
    let (rig, mut alice, ..) = granted(&node).await;
    let mut ids: Vec<_> = (0..2050_u128)
        .map(|handle| GrantId::of(NodeTag::of("nalice"), &handle.to_be_bytes()))
        .collect();
    ids.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    let hers = stored::<Grant>(&rig).await.remove(0);
    multiplied(&rig, &vec![node; ids.len()], |index, grant| {
        grant.id = ids[index].clone();
        grant.revoked = index + 1 < ids.len();
    })
    .await;
    let mut txn = Txn::new();
    txn.put(&Grant { revoked: true, ..hers }).unwrap();
    rig.store.commit(txn).await.unwrap();
    let first = alice.get("/me").await;
    assert_eq!(first.text.matches("value=\"grant\"").count(), 0, "{}", first.text);
    assert!(
        !first
            .text
            .contains("Applications that act for you</h2><p class=\"none\">"),
        "{}",
        first.text
    );
    let next = field(&first.text, "href=\"/me?grants=", '"');
    let second = alice.get(&format!("/me?grants={next}")).await;
    assert_eq!(second.text.matches("value=\"grant\"").count(), 1, "{}", second.text);
    assert!(!second.text.contains("/me?grants="));
}

#[tokio::test]
async fn a_grant_is_forgotten_when_its_time_is_over_and_not_within_a_quarter_of_an_hour() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let mut metadata = public_client();
    metadata["grant_types"] = json!(["authorization_code"]);
    let id = text(&alice.register(&metadata).await, "client_id");
    let code = code(&mut alice, &id, &TO_MCP).await;
    assert_eq!(redeem(&mut alice, &id, &code).await.status, StatusCode::OK);
    let mut walk = sweep::Walk::default();
    let mut swept = async || walk.go_on(&rig.store, rig.now()).await.unwrap();
    rig.seconds.fetch_add(15 * MINUTE - 1, Relaxed);
    assert_eq!(swept().await, 0);
    rig.seconds.fetch_add(1, Relaxed);
    assert_eq!(swept().await, 1);
    assert!(stored::<Grant>(&rig).await.is_empty());
    assert_eq!(swept().await, 0);
}

#[tokio::test]
async fn the_walk_goes_through_a_hundred_thousand_grants_within_an_hour_and_keeps_up_with_more() {
    const PART: usize = 2000;
    let (rig, ..) = granted(&alice()).await;
    let node = alice();
    let now = rig.now();
    // Nine of ten stand.
    multiplied(&rig, &vec![node; 10_000], |index, grant| {
        if index % 10 == 0 {
            grant.revoked = true;
            grant.issued_at = now - Duration::from_secs(3600);
            grant.expires_at = now;
        }
    })
    .await;
    let mut walk = sweep::Walk::default();
    let (mut minutes, mut removed) = (0, 0);
    while removed < 1000 {
        let part = walk.go_on(&rig.store, now).await.unwrap();
        assert!(part < PART, "{part} in one minute");
        removed += part;
        minutes += 1;
    }
    assert!((4..=5).contains(&minutes), "{minutes} minutes for 9,000 that stand");
    assert_eq!(stored::<Grant>(&rig).await.len(), 9001);
    // All but a few are over: what is removed does not count as passed by.
    rig.seconds.fetch_add(31 * 24 * 60 * MINUTE, Relaxed);
    let (mut minutes, mut removed) = (0, 0);
    while removed < 9001 {
        removed += walk.go_on(&rig.store, rig.now()).await.unwrap();
        minutes += 1;
    }
    assert!(minutes <= 2, "{minutes}");
}

#[tokio::test]
async fn nobody_fills_the_disk_with_grants_and_those_that_were_taken_back_make_room() {
    use countersign_oauth::grant::MAX_PER_OWNER;

    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let counter = Grant::counter(&Owner::User(1));
    let mut many = Txn::new();
    many.count(&counter, i64::try_from(MAX_PER_OWNER).unwrap() - 1, None);
    rig.store.commit(many).await.unwrap();
    let (last, late) = (code(&mut alice, &id, &[]).await, code(&mut alice, &id, &[]).await);
    let last = redeem(&mut alice, &id, &last).await;
    assert_eq!(last.status, StatusCode::OK, "{}", last.text);
    let refused = redeem(&mut alice, &id, &late).await;
    assert_eq!(refused.status, StatusCode::SERVICE_UNAVAILABLE);
    assert!(
        refused.text.contains("100000 grants") && refused.text.contains("/me"),
        "{}",
        refused.text
    );
    // Refreshing makes no grant, and bob has room of his own.
    let token = text(&last, "refresh_token");
    assert_eq!(refresh(&mut alice, &id, &token).await.status, StatusCode::OK);
    let mut bob = rig.client(&Node::user(2, "bob", &[ALL])).await;
    let his = registered(&mut bob).await;
    let code_of_bob = code(&mut bob, &his, &[]).await;
    assert_eq!(redeem(&mut bob, &his, &code_of_bob).await.status, StatusCode::OK);

    let revoke = form(&[("client_id", &id), ("token", &token)]);
    let revoked = alice.send(Method::POST, "/revoke", &[FORM], revoke).await;
    assert_eq!(revoked.status, StatusCode::OK, "{}", revoked.text);
    rig.seconds.fetch_add(15 * MINUTE, Relaxed);
    sweep::Walk::default().go_on(&rig.store, rig.now()).await.unwrap();
    assert_eq!(rig.store.reads().counter(&counter).await.unwrap(), MAX_PER_OWNER - 1);
    let again = code(&mut alice, &id, &[]).await;
    assert_eq!(redeem(&mut alice, &id, &again).await.status, StatusCode::OK);
}
