//! What changes underneath: rules, nodes, owners, clients and time.

use super::*;

impl Sequence {
    pub(super) fn edit_policy(&mut self) {
        let node = self.some_node();
        let mut rules = vec![];
        for _ in 0..self.rng.random_range(0..5) {
            let rule = self.some_rule();
            rules.push(rule);
        }
        self.note(format!("{} is now under {rules:?}", NODES[node].0));
        self.set_rules(node, rules);
        self.announce();
    }

    /// Sometimes the server is told at once, and ends what lost its ground; sometimes it only finds it at a request.
    fn announce(&mut self) {
        if self.rng.random_bool(0.5) {
            self.rig.nodes.announce();
        }
    }

    /// Every rule of somebody who was granted something goes, and comes back when the server has been told and has done
    /// what it must: what was granted does not come back.
    pub(super) async fn withdraw_for_a_moment(&mut self) {
        let candidates = (0..self.consents.len()).filter(|&at| {
            let consent = &self.consents[at];
            let present = consent.redeemed_by.is_some_and(|node| self.machines[node].present);
            let held = !consent.refresh.is_empty() && !consent.resources.is_empty() && !consent.revoked;
            present && held && self.stands(at)
        });
        let candidates: Vec<usize> = candidates.collect();
        let Some(&at) = candidates.choose(&mut self.rng) else {
            return;
        };
        let (app, subject) = (self.consents[at].app, self.consents[at].node);
        let Some(node) = self.consents[at].redeemed_by else {
            return;
        };
        let rules = std::mem::take(&mut self.machines[subject].rules);
        self.set_rules(subject, Vec::new());
        self.rig.nodes.announce();
        let text = self.consents[at].refresh.last().cloned().unwrap_or_default();
        let pairs = [("grant_type", "refresh_token"), ("refresh_token", text.as_str())];
        for round in 0.. {
            let proof = self.proof_of(app, true);
            let Some(answer) = self.send_proven(node, "/token", &proof, &pairs).await else {
                break;
            };
            self.must(answer.status != StatusCode::OK, "a refresh without any rule");
            // As long as the rules alone refuse it, it is there still.
            if !answer.text.contains("no rule") {
                break;
            }
            self.must(round < 2000, "a grant without any rule does not end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.set_rules(subject, rules);
        self.rig.nodes.announce();
        self.note(format!("the rules of {} were gone for a moment", NODES[subject].0));
        self.consents[at].revoked = true;
        self.issued.insert("a rule that comes and goes");
    }

    pub(super) fn some_rule(&mut self) -> Rule {
        let resource = *["*", RESOURCES[0], RESOURCES[1], RESOURCES[2]]
            .choose(&mut self.rng)
            .unwrap_or(&"*");
        let user = *["*", "alice", "bob", "tag:app"].choose(&mut self.rng).unwrap_or(&"*");
        match self.rng.random_range(0..10) {
            0..2 => Rule::Register,
            2..5 => Rule::Plain { user, resource },
            5..6 => Rule::Publish,
            6..7 => Rule::Introspect { resource: RESOURCES[2] },
            which => {
                let client = self
                    .some_app()
                    .filter(|_| which == 8)
                    .map(|app| self.apps[app].id.clone());
                let fields = Fields {
                    users: self.some_of(["*", "alice", "bob", "tag:app"], 2),
                    resources: self.some_of(RESOURCES, 2),
                    clients: client.into_iter().collect(),
                    scopes: self.some_of(["read", "write", "profile"], 2),
                };
                Rule::Nested {
                    deny: self.rng.random_bool(0.4),
                    fields,
                }
            }
        }
    }

    pub(super) fn set_rules(&mut self, node: usize, rules: Vec<Rule>) {
        let texts: Vec<String> = rules.iter().map(Rule::text).collect();
        self.machines[node].node.facts.lock().policy = Policy::parse(texts.iter().map(String::as_str));
        self.machines[node].rules = rules;
    }

    /// A node leaves the tailnet or comes back, or what it says may not be its own any more.
    pub(super) fn come_and_go(&mut self) {
        let node = self.some_node();
        let machine = &mut self.machines[node];
        match self.rng.random_range(0..4) {
            0 if machine.present => {
                machine.node.withdraw();
                let id = machine.node.facts.lock().node_id.clone();
                self.rig.nodes.all.lock().remove(&id);
                (machine.present, machine.http) = (false, None);
            }
            1 => machine.node.facts.lock().shared = true,
            2 if matches!(machine.whose, Whose::User(..)) => machine.node.facts.lock().routes = true,
            _ => {
                machine.node.vouched.send_replace(true);
                let mut facts = machine.node.facts.lock();
                (facts.shared, facts.routes) = (false, false);
                machine.present = true;
            }
        }
        let facts = machine.node.facts.lock().clone();
        if machine.present {
            let known = self.rig.nodes.node(&facts.node_id).is_some();
            if !known {
                self.rig.nodes.add(&machine.node);
            }
        }
        machine.doubtful = facts.shared || (facts.routes && matches!(machine.whose, Whose::User(..)));
        let (present, doubtful) = (machine.present, machine.doubtful);
        self.note(format!("{}: present {present}, doubtful {doubtful}", NODES[node].0));
        self.announce();
    }

    /// The phone is somebody else's from now on, under the same stable id.
    pub(super) fn change_hands(&mut self) {
        let whose = if self.machines[1].whose == ALICE { BOB } else { ALICE };
        self.machines[1].node.facts.lock().who = who(whose);
        self.machines[1].whose = whose;
        self.note(format!("the phone is {}'s now", whose.name()));
        self.announce();
    }

    pub(super) async fn publish(&mut self) {
        let (Some(app), published) = (self.some_app(), self.rng.random_bool(0.6)) else {
            return;
        };
        let id = self.apps[app].id.clone();
        if self.rig.server.publish(&id, published, "the test").await.is_ok() {
            self.apps[app].published = published;
            self.note(format!("client {app}: published {published}"));
            if !published {
                self.taken_back(app);
            }
        }
    }

    /// What others had of a client by an administrator's word ends with it.
    fn taken_back(&mut self, app: usize) {
        let mut any = false;
        for consent in self
            .consents
            .iter_mut()
            .filter(|consent| consent.app == app && consent.by_admin)
        {
            any |= !consent.revoked;
            consent.revoked = true;
        }
        for had in self.remembered.iter_mut().filter(|had| had.app == app && had.by_admin) {
            had.over = true;
        }
        if any {
            self.issued.insert("a client that is taken back");
        }
    }

    pub(super) async fn delete(&mut self) {
        let (Some(app), node) = (self.some_app(), self.some_node()) else {
            return;
        };
        let path = format!("/register/{}", self.apps[app].id);
        let bearer = format!("Bearer {}", self.apps[app].registration_token);
        let headers = [("authorization", bearer.as_str())];
        let Some(answer) = self.send(node, Method::DELETE, &path, &headers, String::new()).await else {
            return;
        };
        if answer.status == StatusCode::NO_CONTENT {
            self.must(
                self.owner(node) == self.apps[app].owner,
                "somebody else's client was deleted",
            );
            self.apps[app].deleted = true;
            self.note(format!("client {app} was deleted"));
        }
    }

    pub(super) fn wait(&mut self) {
        let seconds = *[1, 20, 61, 301, 700, 90_000].choose(&mut self.rng).unwrap_or(&1);
        self.rig.seconds.fetch_add(seconds, Relaxed);
        self.note(format!("{seconds} s passed"));
    }
}
