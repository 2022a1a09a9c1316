//! No sequence of requests yields a token whose user, node, client, resource or scope was not consented to and granted at
//! that time.
//!
//! A few people with a few nodes do at random what clients, browsers, thieves and administrators do, over HTTP, while
//! rules, nodes and time change under them: requests are sent directly or pushed, consents remembered, sessions ended,
//! assertions replayed, rules withdrawn for a moment. Every code and token that comes out is held against what the pages
//! showed, who clicked, and what the rules say at that moment by the model. `COUNTERSIGN_SEQUENCES=10000` runs for longer,
//! `COUNTERSIGN_SEED=n` runs one sequence again: a failure names its seed.

mod bearers;
mod browsers;
mod changes;
mod clicks;
mod clients;
mod flows;
mod judge;
mod model;

use std::collections::BTreeSet;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use self::{
    browsers::Pushed,
    clicks::{Remembered, Session, Shown},
    clients::App,
    model::{Fields, Rule, Whose, granted, shut_out},
};
use super::{
    flow::{CHALLENGE, FORM, OURS, REDIRECT, VERIFIER, claims, field, form},
    *,
};

const STEPS: usize = 150;
const RESOURCES: [&str; 3] = [
    "https://app.example.ts.net/mcp",
    "https://app.example.ts.net/admin",
    "https://files.example.ts.net",
];
const SCOPES: [&str; 5] = ["openid", "profile", "offline_access", "read", "write"];
const ALICE: Whose = Whose::User(1, "alice");
const BOB: Whose = Whose::User(2, "bob");
const NODES: [(&str, Whose); 6] = [
    ("laptop", ALICE),
    ("phone", ALICE),
    ("desk", BOB),
    ("router", Whose::User(3, "carol")),
    ("app", Whose::Tagged("tag:app")),
    ("files", Whose::Tagged("tag:files")),
];
/// The nodes whose names are the hosts of the resources: they may look into the tokens for these.
const SERVERS: [usize; 2] = [4, 5];
/// What must have happened in some sequence, or the test shows nothing.
const KINDS: [&str; 13] = [
    "code",
    "refresh",
    "machine",
    "userinfo",
    "introspection",
    "an opaque token",
    "a token by a key",
    "a pushed request",
    "a code without a click",
    "a code without a click for a pushed request",
    "a logout",
    "a client that is taken back",
    "a rule that comes and goes",
];

/// One node, as the sequence knows it.
struct Machine {
    node: Node,
    whose: Whose,
    rules: Vec<Rule>,
    present: bool,
    doubtful: bool,
    http: Option<Client>,
    /// The session that its browser has, by its place among all.
    session: Option<usize>,
}

/// To whom something belongs, in this file's own words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    User(i64),
    Node(usize),
}

/// What somebody clicked for, now or earlier, and what came of it.
struct Consent {
    node: usize,
    owner: Owner,
    app: usize,
    scopes: Vec<&'static str>,
    resources: Vec<&'static str>,
    code: String,
    at: i64,
    /// When the session began on which a code without a click rests.
    silent: Option<i64>,
    /// Whether an administrator's word alone lets the user have the client.
    by_admin: bool,
    redeemed_by: Option<usize>,
    /// Whether it ended for good: revoked, or its ground was taken away and everybody was told.
    revoked: bool,
    refresh: Vec<String>,
    access: Vec<Access>,
}

/// An access token.
struct Access {
    text: String,
    /// What it says, or what the server it is for was told; nothing when that could not be asked.
    claims: Option<Value>,
    until: i64,
}

struct Sequence {
    seed: u64,
    rng: StdRng,
    rig: Rig,
    require_grant: bool,
    machines: Vec<Machine>,
    apps: Vec<App>,
    pushed: Vec<Pushed>,
    shown: Vec<Shown>,
    sessions: Vec<Session>,
    remembered: Vec<Remembered>,
    consents: Vec<Consent>,
    history: Vec<String>,
    issued: BTreeSet<&'static str>,
}

#[tokio::test]
async fn no_sequence_of_requests_yields_what_was_not_consented_to_and_granted() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    if let Some(seed) = number("COUNTERSIGN_SEED") {
        Sequence::start(seed).await.run().await;
        return;
    }
    let wanted = number("COUNTERSIGN_SEQUENCES");
    let started = crate::clock::monotonic();
    let mut seen = BTreeSet::new();
    for seed in 0..wanted.unwrap_or(200) {
        seen.extend(Sequence::start(seed).await.run().await);
        // A busy machine does fewer, as long as everything happened.
        let late = crate::clock::monotonic().duration_since(started) > Duration::from_secs(10);
        if wanted.is_none() && late && KINDS.iter().all(|kind| seen.contains(kind)) {
            break;
        }
    }
    for kind in KINDS {
        assert!(seen.contains(kind), "no sequence came to {kind}: {seen:?}");
    }
}

impl Sequence {
    async fn start(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let require_grant = rng.random_bool(0.3);
        let rig = Rig::start(ServerConfig {
            require_grant,
            ..config()
        })
        .await;
        let machines = NODES.iter().map(|&(name, whose)| Machine {
            node: Node::new(facts(name, whose)),
            whose,
            rules: Vec::new(),
            present: true,
            doubtful: false,
            http: None,
            session: None,
        });
        let mut sequence = Self {
            seed,
            rng,
            rig,
            require_grant,
            machines: machines.collect(),
            apps: Vec::new(),
            pushed: Vec::new(),
            shown: Vec::new(),
            sessions: Vec::new(),
            remembered: Vec::new(),
            consents: Vec::new(),
            history: Vec::new(),
            issued: BTreeSet::new(),
        };
        for node in 0..NODES.len() {
            let rules = vec![
                Rule::Register,
                Rule::Plain {
                    user: "*",
                    resource: "*",
                },
            ];
            sequence.set_rules(node, rules);
        }
        sequence
    }

    async fn run(mut self) -> BTreeSet<&'static str> {
        for _ in 0..STEPS {
            match self.rng.random_range(0..100) {
                0..7 => self.register().await,
                7..12 => self.push().await,
                12..30 => self.authorize().await,
                30..45 => self.click().await,
                45..60 => self.redeem().await,
                60..70 => self.refresh().await,
                70..74 => self.act_for_itself().await,
                74..78 => self.ask_userinfo().await,
                78..82 => self.introspect().await,
                82..84 => self.revoke().await,
                84..86 => self.log_out().await,
                86..89 => self.edit_policy(),
                89..90 => self.withdraw_for_a_moment().await,
                90..92 => self.come_and_go(),
                92..94 => self.change_hands(),
                94..98 => self.publish().await,
                98..99 => self.delete().await,
                _ => self.wait(),
            }
        }
        self.issued
    }

    fn note(&mut self, what: String) {
        self.history.push(what);
    }

    fn must(&self, holds: bool, what: &str) {
        assert!(
            holds,
            "COUNTERSIGN_SEED={}: {what}\n{}",
            self.seed,
            self.history
                .iter()
                .rev()
                .take(40)
                .rev()
                .cloned()
                .collect::<Vec<_>>()
                .join("\n")
        );
    }

    fn now(&self) -> i64 {
        self.rig.seconds.load(Relaxed)
    }

    fn some_node(&mut self) -> usize {
        self.rng.random_range(0..NODES.len())
    }

    /// Mostly this one.
    fn mostly(&mut self, node: usize) -> usize {
        if self.rng.random_bool(0.8) {
            node
        } else {
            self.some_node()
        }
    }

    fn some_app(&mut self) -> Option<usize> {
        (!self.apps.is_empty()).then(|| self.rng.random_range(0..self.apps.len()))
    }

    fn some_of<const N: usize>(&mut self, items: [&'static str; N], most: usize) -> Vec<&'static str> {
        let count = self.rng.random_range(0..=most);
        items.choose_multiple(&mut self.rng, count).copied().collect()
    }

    fn owner(&self, node: usize) -> Owner {
        match self.machines[node].whose {
            Whose::User(id, _) => Owner::User(id),
            Whose::Tagged(_) => Owner::Node(node),
        }
    }

    fn believed(&self, node: usize) -> bool {
        self.machines[node].present && !self.machines[node].doubtful
    }

    async fn send(
        &mut self,
        node: usize,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> Option<Answer> {
        for _ in 0..2 {
            if !self.machines[node].present {
                return None;
            }
            if self.machines[node].http.is_none() {
                let client = self.rig.client(&self.machines[node].node).await;
                self.machines[node].http = Some(client);
            }
            let mut request = Request::builder().method(method.clone()).uri(path).header("host", HOST);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let request = request.body(Full::new(Bytes::from(body.clone()))).unwrap();
            match self.machines[node].http.as_mut()?.try_send(request).await {
                Ok(answer) => return Some(answer),
                // The connection ended when the node was away.
                Err(_) => self.machines[node].http = None,
            }
        }
        None
    }
}

fn who(whose: Whose) -> Who {
    match whose {
        Whose::User(id, login) => Who::User {
            id,
            login: login.into(),
            display_name: login.into(),
            picture: String::new(),
        },
        Whose::Tagged(tag) => Who::Tagged(vec![tag.into()]),
    }
}

fn facts(name: &str, whose: Whose) -> Caller {
    let template = Node::user(1, "nobody", &[]).facts.lock().clone();
    Caller {
        node_id: format!("n{name}"),
        node_name: format!("{name}.example.ts.net"),
        who: who(whose),
        ..template
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => vec![one.clone()],
        several => several
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| item.as_str().unwrap().to_owned())
            .collect(),
    }
}
