use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::tests_support::{alice, alice_with, bob, public_client, registration_rules, tagged, token_rules};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);

struct Scene {
    subject: Caller,
    record: Option<Client>,
    registrant: Option<Caller>,
    resources: Vec<Resource>,
    scopes: Vec<String>,
    reader: Reader,
    require_grant: bool,
    open_network: bool,
}

impl Scene {
    fn of(subject: Caller) -> Self {
        Self {
            subject,
            record: Some(public_client()),
            registrant: Some(alice()),
            resources: vec![Resource::parse("https://mcp.example/mcp").unwrap()],
            scopes: vec!["openid".into(), "mcp:tools".into()],
            reader: Reader::Administrator,
            require_grant: false,
            open_network: false,
        }
    }

    fn rules(&self) -> authorize::Rules {
        authorize::Rules {
            require_grant: self.require_grant,
            open_network: self.open_network,
            ..token_rules().authorize
        }
    }

    fn explain(&self) -> Explanation {
        let client = public_client().id;
        let question = Question {
            subject: &self.subject,
            client: Some(&client),
            record: self.record.as_ref(),
            registrant: self.registrant.as_ref(),
            resources: &self.resources,
            scopes: &self.scopes,
            reader: self.reader,
        };
        let settings = Settings {
            registration: &registration_rules(),
            authorize: &self.rules(),
        };
        explain(&question, &settings, NOW)
    }
}

fn step(explanation: &Explanation, kind: Kind) -> &Step {
    explanation.steps.iter().find(|step| step.kind == kind).unwrap()
}

#[test]
fn a_yes_names_the_rule_its_text_and_its_source() {
    let rule = r#"{"users":["alice"],"resources":["https://mcp.example/mcp"]}"#;
    let explanation = Scene::of(alice_with(&[r#"{"allow_dcr":true}"#, rule])).explain();
    assert!(explanation.allowed);
    assert_eq!((explanation.rules, explanation.nodes[0].id.as_str()), (2, "nAlice"));
    let resource = step(&explanation, Kind::Resource);
    let decider = resource.rule.as_ref().unwrap();
    assert_eq!((decider.number, decider.text.as_str()), (2, rule));
    assert!(decider.source.contains("rule 2 of 2"), "{}", decider.source);
    assert_eq!(step(&explanation, Kind::Registration).rule.as_ref().unwrap().number, 1);
    assert!(step(&explanation, Kind::Login).why.contains("require_grant = false"));
    assert!(step(&explanation, Kind::Client).why.contains("alice's own"));
    assert!(explanation.steps.iter().all(|step| step.remedies.is_empty()));
}

#[test]
fn a_no_says_what_to_write_and_that_makes_it_a_yes() {
    let mut scene = Scene {
        require_grant: true,
        ..Scene::of(alice_with(&[]))
    };
    let mut added = Vec::new();
    for kind in [Kind::Registration, Kind::Login, Kind::Resource] {
        let explanation = scene.explain();
        let refused = step(&explanation, kind);
        assert!(!refused.allowed, "{refused:?}");
        let grant = refused.remedies.iter().find(|remedy| remedy.add.is_object()).unwrap();
        assert_eq!(grant.add["src"], json!(["alice@"]));
        added.push(grant.add["app"]["tailscale.com/cap/tsidp"][0].to_string());
        let rules: Vec<&str> = added.iter().map(String::as_str).collect();
        scene.subject = alice_with(&rules);
        assert!(step(&scene.explain(), kind).allowed, "{rules:?}");
    }
    assert!(scene.explain().allowed);
}

#[test]
fn a_remedy_for_a_tagged_node_is_one_that_tags_can_have() {
    let mut scene = Scene::of(Caller {
        policy: Policy::default(),
        ..tagged()
    });
    scene.record = None;
    let explanation = scene.explain();
    let rule = step(&explanation, Kind::Resource).remedies[0].add["app"]["tailscale.com/cap/tsidp"][0].to_string();
    scene.subject.policy = Policy::parse([rule.as_str()]);
    assert!(step(&scene.explain(), Kind::Resource).allowed, "{rule}");
}

#[test]
fn a_denial_or_a_broken_rule_is_shown_as_what_to_change() {
    let denial = r#"{"countersign":{"deny":true,"users":["alice"],"resources":["https://mcp.example/*"]}}"#;
    let explanation = Scene::of(alice_with(&[r#"{"users":["*"],"resources":["*"]}"#, denial])).explain();
    let resource = step(&explanation, Kind::Resource);
    assert!(!explanation.allowed && resource.why.contains("rule 2"));
    assert_eq!(
        resource.remedies[0].change,
        serde_json::from_str::<Value>(denial).unwrap()
    );
    let explanation = Scene::of(alice_with(&[r#"{"users":["*"],"deny":true}"#])).explain();
    let login = step(&explanation, Kind::Login);
    assert!(login.why.contains("`deny` stands beside"), "{}", login.why);
    assert_eq!(login.rule.as_ref().unwrap().text, r#"{"users":["*"],"deny":true}"#);
    assert_eq!(step(&explanation, Kind::Registration).rule.as_ref().unwrap().number, 1);
}

#[test]
fn somebody_elses_client_comes_with_both_ways_to_publish_it_and_no_text_of_others_rules() {
    let publishes = r#"{"countersign":{"publish_clients":true}}"#;
    let mut scene = Scene::of(bob());
    let explanation = scene.explain();
    let client = step(&explanation, Kind::Client);
    assert!(
        client
            .why
            .contains("registered by alice on laptop.example.ts.net, on 1970-01-01")
    );
    assert_eq!(client.remedies.len(), 2);
    scene.registrant = Some(alice_with(&[publishes]));
    let told = |scene: &Scene| step(&scene.explain(), Kind::Client).rule.clone().unwrap().text;
    assert_eq!(told(&scene), publishes);
    scene.reader = Reader::Subject;
    assert_eq!(told(&scene), "");
    scene.record = None;
    assert!(
        step(&scene.explain(), Kind::Client)
            .why
            .contains("no client is registered")
    );
}

#[test]
fn shared_nodes_and_routers_are_denied_and_only_routers_can_be_let_in() {
    let shared = Scene::of(Caller {
        shared: true,
        ..alice()
    })
    .explain();
    assert!(!shared.allowed);
    assert!(step(&shared, Kind::Identity).why.contains("another tailnet"));
    assert!(step(&shared, Kind::Identity).remedies.is_empty());
    let router = Scene::of(Caller {
        routes: true,
        ..alice()
    })
    .explain();
    assert!(!router.allowed);
    assert_eq!(
        step(&router, Kind::Identity).remedies[0].add,
        "routers_are_users = true"
    );
}

#[test]
fn a_scope_that_the_client_did_not_register_is_left_out_before_policy_is_asked() {
    let mut scene = Scene::of(alice_with(&[r#"{"users":["*"],"resources":["*"]}"#]));
    scene.record = Some(Client {
        scope: Some(vec!["openid".into()]),
        ..public_client()
    });
    let explanation = scene.explain();
    let scopes: Vec<bool> = explanation
        .steps
        .iter()
        .filter(|step| step.kind == Kind::Scope)
        .map(|step| step.allowed)
        .collect();
    assert_eq!(scopes, [true, false]);
    assert!(explanation.allowed, "scopes are reduced, never refused");
}

#[test]
fn a_client_that_names_no_resource_asks_for_its_default_one() {
    let mut scene = Scene::of(alice());
    scene.resources.clear();
    assert!(scene.explain().allowed);
    let mut client = public_client();
    client.options.default_resource = Some(Resource::parse("https://mcp.example/mcp").unwrap());
    scene.record = Some(client);
    let explanation = scene.explain();
    assert!(!explanation.allowed);
    assert_eq!(step(&explanation, Kind::Resource).about, "https://mcp.example/mcp");
}

#[test]
fn nodes_that_are_answered_alike_are_told_once() {
    let one = Scene::of(alice()).explain();
    let mut two = one.clone();
    two.nodes[0].id = "nAlice2".into();
    let mut other = one.clone();
    other.steps[0].allowed = false;
    let merged = merged(vec![one, two, other]);
    assert_eq!(merged.iter().map(|told| told.nodes.len()).collect::<Vec<_>>(), [2, 1]);
}

proptest! {
    /// What is explained is what is decided: the same request, through the endpoint's own decision.
    #[test]
    fn the_explanation_agrees_with_the_decision(
        rules in proptest::collection::vec(prop_oneof![
            Just(r#"{"users":["alice"],"resources":["https://mcp.example/mcp"]}"#),
            Just(r#"{"users":["*"],"resources":["https://other.example"]}"#),
            Just(r#"{"countersign":{"users":["alice"],"resources":["https://mcp.example/*"],"scopes":["mcp:tools"]}}"#),
            Just(r#"{"countersign":{"users":["alice"],"clients":["c1"]}}"#),
            Just(r#"{"countersign":{"deny":true,"users":["bob"]}}"#),
            Just(r#"{"countersign":{"deny":true,"clients":["c1"]}}"#),
            Just(r#"{"countersign":{"deny":true,"scopes":["openid"]}}"#),
            Just(r#"{"countersign":{"publish_clients":true}}"#),
            Just(r#"{"clients":[]}"#),
        ], 0..4),
        by_bob: bool, require_grant: bool, open_network: bool, routes: bool,
    ) {
        let policy = Policy::parse(rules.iter().copied());
        let subject = Caller { policy: policy.clone(), routes, ..if by_bob { bob() } else { alice() } };
        let scene = Scene {
            require_grant,
            open_network,
            registrant: Some(Caller { policy, ..alice() }),
            ..Scene::of(subject)
        };
        let params = crate::params::Params::parse(
            b"response_type=code&client_id=c1&redirect_uri=http%3A%2F%2Flocalhost%3A1%2Fcb%3Fx%3D1&scope=openid+mcp:tools\
              &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256\
              &resource=https%3A%2F%2Fmcp.example%2Fmcp",
        );
        let outcome = authorize::authorize(
            &params, None, scene.record.as_ref(), &scene.subject, scene.registrant.as_ref(), &scene.rules(), NOW,
        );
        let explanation = scene.explain();
        match outcome {
            authorize::Outcome::Valid(request) => {
                prop_assert!(explanation.allowed);
                let scopes: Vec<&str> = explanation.steps.iter()
                    .filter(|step| step.kind == Kind::Scope && step.allowed).map(|step| step.about.as_str()).collect();
                prop_assert_eq!(request.scopes, scopes);
            }
            _ => prop_assert!(!explanation.allowed),
        }
    }
}
