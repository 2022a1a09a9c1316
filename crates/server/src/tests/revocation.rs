//! What rested on the tailnet ends with it, within a second of the netmap change, and does not come back.

use std::time::Instant;

use countersign_oauth::grant::{Code, Grant};
use countersign_store::Record;
use tokio::task::JoinSet;

use super::{
    flow::{ALL, FORM, OURS, RESOURCE, alice, click, code, form, page, redeem, refresh, registered, text},
    *,
};

mod kinds;
mod looks;
mod unsure;

/// Longer than anything takes here, on a machine that has much else to do, unless it never happens.
const PATIENCE: Duration = Duration::from_secs(10);
const TO_MCP: [(&str, &str); 2] = [("resource", RESOURCE), ("scope", "read write offline_access")];

async fn stored<R: Record>(rig: &Rig) -> Vec<R> {
    rig.store.scan::<R>(b"", None, 1000).await.unwrap().records
}

/// Grants that are good, and codes that are not spent.
async fn open(rig: &Rig) -> (usize, usize) {
    let grants = stored::<Grant>(rig).await;
    let codes = stored::<Code>(rig).await;
    (
        grants.iter().filter(|grant| !grant.revoked).count(),
        codes.iter().filter(|code| !code.spent).count(),
    )
}

/// Waits until as much as this is open, and says how long that took.
async fn becomes(rig: &Rig, expected: (usize, usize)) -> Duration {
    let begun = Instant::now();
    loop {
        let now = open(rig).await;
        if now == expected {
            return begun.elapsed();
        }
        assert!(begun.elapsed() < PATIENCE, "{now:?} is open, not {expected:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until so many records were ended or narrowed.
async fn counted(rig: &Rig, records: u64) {
    let begun = Instant::now();
    while rig.counters().records_ended < records {
        assert!(begun.elapsed() < PATIENCE, "{} records", rig.counters().records_ended);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(rig.counters().records_ended, records);
}

/// What a user has: a refresh token and a code.
struct Held {
    client_id: String,
    refresh_token: String,
    code: String,
}

async fn given(client: &mut Client, client_id: &str) -> Held {
    let redeemed = code(client, client_id, &TO_MCP).await;
    Held {
        client_id: client_id.to_owned(),
        refresh_token: text(&redeem(client, client_id, &redeemed).await, "refresh_token"),
        code: code(client, client_id, &TO_MCP).await,
    }
}

impl Held {
    /// Nothing of it is good for anything.
    async fn is_over(&self, client: &mut Client) {
        let answer = refresh(client, &self.client_id, &self.refresh_token).await;
        assert_eq!(answer.json()["error"], "invalid_grant", "{}", answer.text);
        let answer = redeem(client, &self.client_id, &self.code).await;
        assert_eq!(answer.json()["error"], "invalid_grant", "{}", answer.text);
    }

    async fn is_good(&self, client: &mut Client) {
        let answer = refresh(client, &self.client_id, &self.refresh_token).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        let answer = redeem(client, &self.client_id, &self.code).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    }
}

fn bob() -> Node {
    Node::user(2, "bob", &[ALL])
}

async fn audit(rig: &Rig) -> Vec<Value> {
    let lines = rig.store.audit(None, 1000).await.unwrap();
    lines
        .iter()
        .map(|(_, line)| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn a_withdrawn_rule_ends_what_rested_on_it_and_its_return_revives_nothing() {
    let rig = Rig::start(config()).await;
    let (alice_node, bob_node) = (alice(), bob());
    let (mut alice, mut bob) = (rig.client(&alice_node).await, rig.client(&bob_node).await);
    let (of_alice, of_bob) = (registered(&mut alice).await, registered(&mut bob).await);
    let (hers, his) = (given(&mut alice, &of_alice).await, given(&mut bob, &of_bob).await);
    assert_eq!(open(&rig).await, (2, 2));

    alice_node.facts.lock().policy = Policy::parse([r#"{"allow_dcr":true}"#]);
    rig.nodes.announce();
    let took = becomes(&rig, (1, 1)).await;
    assert!(took < Duration::from_secs(1), "{took:?} after the netmap change");

    let audit = audit(&rig).await;
    for event in ["grant_ended", "code_ended"] {
        let line = audit.iter().find(|line| line["event"] == event).unwrap();
        assert_eq!(
            (&line["node_id"], &line["client"]),
            (&json!("nalice"), &json!(of_alice)),
            "{line}"
        );
        let why = line["detail"].as_str().unwrap();
        assert!(why.contains("no rule") && why.contains(RESOURCE), "{why}");
    }
    let line = audit.iter().find(|line| line["event"] == "grant_ended").unwrap();
    assert_eq!(line["user"], "alice");
    counted(&rig, 2).await;
    assert_eq!(
        stored::<Code>(&rig).await.len(),
        2,
        "bob's, and alice's, which is spent"
    );

    alice_node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    hers.is_over(&mut alice).await;
    his.is_good(&mut bob).await;
}

/// Nothing of a page is stored, so it does not end with a rule: what counts is the rule at the moment of the click.
#[tokio::test]
async fn a_page_is_answered_by_the_rules_of_the_click_and_once() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let (early, late) = (
        page(&mut alice, &id, &TO_MCP).await,
        page(&mut alice, &id, &TO_MCP).await,
    );
    node.facts.lock().policy = Policy::parse([r#"{"allow_dcr":true}"#]);
    rig.nodes.announce();
    let answer = click(&mut alice, &early, &OURS).await;
    assert!(
        answer.header("location").contains("error=access_denied"),
        "{}",
        answer.text
    );
    node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    assert_eq!(
        click(&mut alice, &early, &OURS).await.status,
        StatusCode::BAD_REQUEST,
        "answered"
    );
    let answer = click(&mut alice, &late, &OURS).await;
    assert!(answer.header("location").contains("code="), "{}", answer.text);

    // What came of the answer ends with the rule; the answer was given all the same.
    node.facts.lock().policy = Policy::parse([r#"{"allow_dcr":true}"#]);
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
    node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    assert_eq!(click(&mut alice, &late, &OURS).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn every_way_of_losing_its_ground_ends_a_record() {
    let deny = r#"{"countersign":{"deny":true,"users":["alice"]}}"#;
    let elsewhere = r#"{"users":["*"],"resources":["https://other.example/"]}"#;
    let other_client = r#"{"countersign":{"users":["*"],"resources":["*"],"clients":["other"]}}"#;
    let facts = |change: fn(&mut Caller)| move |_: &Rig, node: &Node| change(&mut node.facts.lock());
    type Change = Box<dyn Fn(&Rig, &Node)>;
    let policy = |rules: [&'static str; 2]| -> Change {
        Box::new(move |_: &Rig, node: &Node| node.facts.lock().policy = Policy::parse(rules))
    };
    let changes: Vec<(&str, Change)> = vec![
        ("no longer in the tailnet", Box::new(|rig, node| rig.nodes.remove(node))),
        (
            "lets the subject's node reach",
            Box::new(|_, node| node.admitted.store(false, Relaxed)),
        ),
        ("expired", Box::new(|_, node| node.withdraw())),
        (
            "belongs to tag:app now",
            Box::new(facts(|alice| alice.who = Who::Tagged(vec!["tag:app".into()]))),
        ),
        ("advertises routes", Box::new(facts(|alice| alice.routes = true))),
        ("shared in", Box::new(facts(|alice| alice.shared = true))),
        ("rule 2", policy([ALL, deny])),
        (RESOURCE, policy([elsewhere, r"{}"])),
        ("no rule", policy([other_client, r"{}"])),
    ];
    for (why, change) in changes {
        let rig = Rig::start(config()).await;
        let node = alice();
        let mut alice = rig.client(&node).await;
        let id = registered(&mut alice).await;
        given(&mut alice, &id).await;
        change(&rig, &node);
        rig.nodes.announce();
        becomes(&rig, (0, 0)).await;
        let audit = audit(&rig).await;
        let ended = audit.iter().find(|line| line["event"] == "grant_ended").unwrap();
        assert!(ended["detail"].as_str().unwrap().contains(why), "{ended}");
    }
}

#[tokio::test]
async fn a_withdrawn_scope_is_lost_for_good_and_the_rest_goes_on() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let held = given(&mut alice, &id).await;
    let reading = r#"{"countersign":{"users":["*"],"resources":["*"],"scopes":["read"]}}"#;
    let access = text(&refresh(&mut alice, &id, &held.refresh_token).await, "access_token");
    let mcp = Node::user(9, "mcp", &[]);
    mcp.facts.lock().node_name = "mcp.example.ts.net".into();
    let mut server = rig.client(&mcp).await;
    let ask = form(&[("token", &access)]);
    let told = server.send(Method::POST, "/introspect", &[FORM], ask.clone()).await;
    assert_eq!(told.json()["active"], json!(true), "{}", told.text);
    node.facts.lock().policy = Policy::parse([reading]);
    rig.nodes.announce();
    counted(&rig, 2).await;
    let told = server.send(Method::POST, "/introspect", &[FORM], ask).await;
    assert_eq!(
        told.json(),
        json!({"active": false}),
        "the token says that it may write"
    );
    node.facts.lock().policy = Policy::parse([ALL]);
    rig.nodes.announce();
    let answer = refresh(&mut alice, &id, &held.refresh_token).await;
    assert_eq!(answer.json()["scope"], "read", "{}", answer.text);
    let answer = redeem(&mut alice, &id, &held.code).await;
    assert_eq!(answer.json()["scope"], "read", "{}", answer.text);
    assert!(
        audit(&rig).await.iter().any(|line| line["event"] == "grant_narrowed"
            && line["detail"].as_str().unwrap().contains("write offline_access"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_slips_through_that_is_made_while_the_rule_goes() {
    for round in 0..12_u64 {
        let rig = Arc::new(Rig::start(config()).await);
        let node = alice();
        let mut first = rig.client(&node).await;
        let id = registered(&mut first).await;
        let mut codes = Vec::new();
        for _ in 0..8 {
            codes.push(code(&mut first, &id, &TO_MCP).await);
        }
        let mut requests = JoinSet::new();
        for code in codes {
            let (rig, node, id) = (Arc::clone(&rig), node.clone(), id.clone());
            requests.spawn(async move {
                let mut client = rig.client(&node).await;
                let redeemed = redeem(&mut client, &id, &code).await;
                // A code that is made of nothing but the netmap and a page.
                let page = client.get(&flow::authorize_path(&id, &TO_MCP)).await;
                if page.status == StatusCode::OK {
                    click(&mut client, &flow::held_page(&page), &OURS).await;
                }
                let token = redeemed.json()["refresh_token"].as_str().map(str::to_owned)?;
                let refreshed = refresh(&mut client, &id, &token).await;
                Some(refreshed.json()["refresh_token"].as_str().map_or(token, str::to_owned))
            });
        }
        tokio::time::sleep(Duration::from_micros(700 * round)).await;
        node.facts.lock().policy = Policy::default();
        rig.nodes.announce();
        let tokens = requests.join_all().await;
        becomes(&rig, (0, 0)).await;
        node.facts.lock().policy = Policy::parse([ALL]);
        rig.nodes.announce();
        for token in tokens.into_iter().flatten() {
            assert_eq!(refresh(&mut first, &id, &token).await.json()["error"], "invalid_grant");
        }
        assert_eq!(open(&rig).await, (0, 0));
    }
}

#[tokio::test]
async fn a_rule_whose_time_is_over_takes_its_grants_along_at_the_next_look() {
    let rig = Rig::start(config()).await;
    let end = (rig.now() + Duration::from_secs(30))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let short = format!(r#"{{"countersign":{{"users":["*"],"resources":["*"],"expires":"{end}"}}}}"#);
    let node = Node::user(1, "alice", &[r#"{"allow_dcr":true}"#, &short]);
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    let code = code(&mut alice, &id, &TO_MCP).await;
    redeem(&mut alice, &id, &code).await;
    rig.nodes.announce();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(open(&rig).await, (1, 0));
    rig.seconds.fetch_add(30, Relaxed);
    // As the minute does.
    rig.nodes.announce();
    becomes(&rig, (0, 0)).await;
}

#[tokio::test]
async fn a_rule_that_comes_and_goes_between_two_looks_leaves_nothing_behind() {
    let rig = Rig::start(config()).await;
    let node = alice();
    let mut alice = rig.client(&node).await;
    let id = registered(&mut alice).await;
    for round in 0..10 {
        given(&mut alice, &id).await;
        // As the netmap was at the last look, from the second round on.
        node.facts.lock().policy = Policy::parse([r#"{"allow_dcr":true}"#]);
        rig.nodes.announce();
        becomes(&rig, (0, 0)).await;
        node.facts.lock().policy = Policy::parse([ALL]);
        if round % 2 == 0 {
            rig.nodes.announce();
        }
    }
}
