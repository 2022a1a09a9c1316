use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::macros::datetime;

use super::{
    code::{Presented, redeem},
    refresh::{RefreshToken, refresh},
    *,
};
use crate::{
    bearer::{self, AccessToken, Asker, Standing},
    client::{AuthMethod, ClientId, GrantType},
    footing::Publisher,
    grant::{CODE_LIFETIME, Code, CodeId, NodeTag},
    pkce::Challenge,
    policy::Policy,
    secret::SecretHash,
    server_secret::ServerSecret,
    tests_support::{Counting, alice, alice_with, bob, public_client, token_rules},
};

mod nodes;

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const VERIFIER: &str = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
const ANY: &str = r#"{"users":["*"],"resources":["*"]}"#;

/// A scene: who asks, with what, and what the netmap says about the subject.
struct Scene {
    client: Client,
    caller: Caller,
    live: Option<Caller>,
    registrant: Option<Caller>,
    rules: Rules,
    now: OffsetDateTime,
    rng: Box<dyn RngCore>,
}

fn scene() -> Scene {
    Scene {
        client: public_client(),
        caller: alice_with(&[ANY]),
        live: Some(alice_with(&[ANY])),
        registrant: None,
        rules: token_rules(),
        now: NOW,
        rng: Box::new(Counting::default()),
    }
}

/// A code: its name and a secret.
const CODE: &str = "h5FPNSkvAAECAwQFBgcICQoLDA0ODwxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

fn secret() -> ServerSecret {
    ServerSecret::draw(&mut Counting(7))
}

fn code() -> Code {
    let params =
        Params::parse(b"code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256");
    Code {
        id: CodeId::draw("nAlice", &mut Counting::default()),
        hash: SecretHash::of(CODE),
        authorization: Authorization {
            client: public_client().id,
            subject: Subject::of(&alice()),
            scopes: vec!["openid".into(), "mcp".into()],
            resources: vec![Resource::parse("https://mcp.example/mcp").unwrap()],
            nonce: Some("n".into()),
            auth_time: NOW,
            published_by: None,
            publication: None,
        },
        redirect_uri: "http://localhost:5000/cb?x=1".into(),
        challenge: Challenge::read(&params).unwrap(),
        expires_at: NOW + CODE_LIFETIME,
        spent: false,
    }
}

impl Scene {
    fn redeem(&mut self, form: &str, code: Option<Code>, issued: Option<Grant>) -> Outcome {
        let params = Params::parse(form.as_bytes());
        let asking = Asking {
            params: &params,
            client: &self.client,
            caller: &self.caller,
            live: self.live.as_ref(),
            registrant: self.registrant.as_ref(),
            rules: &self.rules,
            now: self.now,
        };
        let presented = Presented::read(&params).unwrap();
        redeem(&asking, &presented, code, issued, &secret(), &mut *self.rng)
    }

    fn refresh(&mut self, form: &str, token: &str, grant: &Grant) -> Outcome {
        let params = Params::parse(form.as_bytes());
        let token = RefreshToken::parse(token).unwrap();
        assert_eq!(token.grant(), grant.id);
        let asking = Asking {
            params: &params,
            client: &self.client,
            caller: &self.caller,
            live: self.live.as_ref(),
            registrant: self.registrant.as_ref(),
            rules: &self.rules,
            now: self.now,
        };
        refresh(&asking, &token, Some(grant.clone()), &mut *self.rng)
    }

    fn issued(&mut self) -> (Grant, Tokens) {
        let (writes, tokens) = issued(self.redeem(&verifier(), Some(code()), None));
        (*writes.grant.unwrap(), tokens)
    }
}

fn verifier() -> String {
    format!("code={CODE}&code_verifier={VERIFIER}")
}

fn issued(outcome: Outcome) -> (Writes, Tokens) {
    match outcome {
        Outcome::Issued { writes, tokens } => (writes, *tokens),
        Outcome::Refused { error, .. } => panic!("{error}"),
    }
}

fn is_spent(writes: &Writes) -> bool {
    matches!(&writes.code, Some(CodeEnd::Spent(code)) if code.spent)
}

fn refused(outcome: Outcome) -> (String, Writes, bool) {
    match outcome {
        Outcome::Refused {
            error,
            writes,
            suspicious,
        } => (error.code().as_str().to_owned(), writes, suspicious),
        Outcome::Issued { .. } => panic!("tokens were issued"),
    }
}

#[test]
fn a_code_becomes_tokens_for_resource_and_client() {
    let mut scene = scene();
    let (writes, tokens) = issued(scene.redeem(&verifier(), Some(code()), None));
    assert!(matches!(writes.code, Some(CodeEnd::Redeemed(gone)) if *gone == code()));
    let grant = writes.grant.unwrap();
    assert_eq!(grant.id, secret().grant_of(&code().id));
    assert_eq!(grant.code, code().hash);
    assert_eq!(grant.expires_at, NOW + Duration::days(30));
    assert_eq!(tokens.access.claims()["aud"], "https://mcp.example/mcp");
    assert_eq!(tokens.access.claims()["sub"], "userid:1");
    assert_eq!(tokens.access.claims()["scope"], "openid mcp");
    assert_eq!(tokens.access.claims()["cnf"], json!({"tailnet_node": "nAlice"}));
    assert_eq!(tokens.access.claims()["gid"], grant.id.as_str());
    let id = tokens.id.unwrap();
    assert_eq!((&id["aud"], &id["nonce"]), (&json!("c1"), &json!("n")));
    let refresh = tokens.refresh.unwrap();
    assert_eq!(RefreshToken::parse(&refresh).unwrap().grant(), grant.id);
    assert_eq!(grant.id.tag(), NodeTag::of("nAlice").to_text());
    assert!(
        RefreshToken::parse(&refresh[..64]).is_none(),
        "too short, as those were that named no node"
    );
}

#[test]
fn without_a_resource_the_token_is_for_us_and_without_the_grant_type_there_is_no_refresh() {
    let mut scene = scene();
    scene.client.grant_types = vec![GrantType::AuthorizationCode];
    let mut plain = code();
    plain.authorization.resources.clear();
    let (writes, tokens) = issued(scene.redeem(&verifier(), Some(plain), None));
    assert_eq!(tokens.access.claims()["aud"], "https://idp.example.ts.net");
    assert!(tokens.refresh.is_none());
    assert_eq!(writes.grant.unwrap().expires_at, NOW + token_rules().access_lifetime);
}

#[test]
fn the_right_client_spends_a_code_whatever_comes_of_it() {
    for form in [
        format!("code={CODE}"),
        format!("code={CODE}&code_verifier={}", VERIFIER.replace("dBj", "dBk")),
        format!("{}&redirect_uri=https://evil.example", verifier()),
        format!("{}&resource=https://other.example", verifier()),
    ] {
        let (_, writes, _) = refused(scene().redeem(&form, Some(code()), None));
        assert!(is_spent(&writes), "{form}");
        assert!(writes.grant.is_none());
    }
}

#[test]
fn others_leave_a_code_alone() {
    let mut other_client = scene();
    other_client.client.id = crate::client::ClientId::from_request("c2");
    let mut other_user = scene();
    other_user.caller = bob();
    for scene in [&mut other_client, &mut other_user] {
        let (error, writes, suspicious) = refused(scene.redeem(&verifier(), Some(code()), None));
        assert_eq!((error.as_str(), suspicious), ("invalid_grant", true));
        assert!(writes.code.is_none() && writes.grant.is_none());
    }
    let mut app_server = scene();
    app_server.caller = bob();
    app_server.client.auth_method = AuthMethod::ClientSecretBasic;
    issued(app_server.redeem(&verifier(), Some(code()), None));
    let mut second_laptop = scene();
    second_laptop.caller.node_id = "nAlice2".into();
    issued(second_laptop.redeem(&verifier(), Some(code()), None));
}

#[test]
fn a_code_ends_after_a_minute_and_its_replay_revokes_what_it_gave() {
    let mut late = scene();
    late.now = NOW + CODE_LIFETIME;
    assert_eq!(refused(late.redeem(&verifier(), Some(code()), None)).0, "invalid_grant");
    let (grant, _) = scene().issued();
    let (error, writes, suspicious) = refused(scene().redeem(&verifier(), None, Some(grant)));
    assert_eq!((error.as_str(), suspicious), ("invalid_grant", true));
    assert!(writes.code.is_none() && writes.grant.unwrap().revoked);
    let (error, writes, suspicious) = refused(scene().redeem(&verifier(), None, None));
    assert_eq!((error.as_str(), suspicious), ("invalid_grant", false));
    assert!(writes.code.is_none() && writes.grant.is_none());
}

#[test]
fn only_the_whole_code_and_only_whoever_might_redeem_it_revokes_what_it_gave() {
    let (grant, _) = scene().issued();
    let forged = format!("code={}{}", code().id.to_text(), "y".repeat(43));
    let (error, writes, suspicious) = refused(scene().redeem(&forged, None, Some(grant.clone())));
    assert_eq!((error.as_str(), suspicious), ("invalid_grant", false));
    assert!(writes.grant.is_none());
    let (error, writes, suspicious) = refused(scene().redeem(&forged, Some(code()), None));
    assert_eq!((error.as_str(), suspicious), ("invalid_grant", false));
    assert!(writes.code.is_none(), "the name of a code does not spend it");

    let mut other_client = scene();
    other_client.client.id = ClientId::from_request("c2");
    let mut other_user = scene();
    other_user.caller = bob();
    for scene in [&mut other_client, &mut other_user] {
        let (error, writes, suspicious) = refused(scene.redeem(&verifier(), None, Some(grant.clone())));
        assert_eq!((error.as_str(), suspicious), ("invalid_grant", true));
        assert!(writes.grant.is_none());
    }
    let mut without_the_grant_type = scene();
    without_the_grant_type.client.grant_types = vec![GrantType::ClientCredentials];
    let (error, writes, _) = refused(without_the_grant_type.redeem(&verifier(), None, Some(grant)));
    assert_eq!(error, "unauthorized_client");
    assert!(writes.grant.is_none());
}

#[test]
fn a_code_that_was_refused_stays_spent_and_its_replay_is_suspicious() {
    let spent = Code { spent: true, ..code() };
    let (error, writes, suspicious) = refused(scene().redeem(&verifier(), Some(spent), None));
    assert_eq!((error.as_str(), suspicious), ("invalid_grant", true));
    assert!(writes.code.is_none() && writes.grant.is_none());
}

#[test]
fn what_does_not_look_like_a_code_is_none() {
    for text in [
        "code=",
        "code=x",
        "code=%C3%A9",
        &format!("code={}", "x".repeat(72)),
        &format!("code={}", "x".repeat(74)),
    ] {
        let error = Presented::read(&Params::parse(text.as_bytes())).unwrap_err();
        let expected = if text == "code=" {
            "invalid_request"
        } else {
            "invalid_grant"
        };
        assert_eq!(error.code().as_str(), expected, "{text}");
    }
    let characters = format!("code={}", "%C3%A9".repeat(40));
    assert!(Presented::read(&Params::parse(characters.as_bytes())).is_err());
}

#[test]
fn the_subject_is_asked_of_the_live_netmap_each_time() {
    let (grant, tokens) = scene().issued();
    let token = tokens.refresh.unwrap();
    for live in [
        None,
        Some(alice()),
        Some(Caller {
            who: bob().who,
            ..alice()
        }),
        Some(Caller {
            shared: true,
            ..alice_with(&[ANY])
        }),
    ] {
        let mut gone = scene();
        gone.live = live.clone();
        let (error, writes, _) = refused(gone.redeem(&verifier(), Some(code()), None));
        assert_eq!(error, "invalid_grant");
        assert!(is_spent(&writes));
        let (error, writes, _) = refused(gone.refresh("", &token, &grant));
        assert_eq!(error, "invalid_grant");
        assert!(writes.grant.is_none(), "a refusal by policy spends nothing");
    }
}

#[test]
fn refreshing_rotates_and_the_same_node_gets_the_same_successor_again() {
    let mut scene = scene();
    let (grant, tokens) = scene.issued();
    let first = tokens.refresh.unwrap();
    let (writes, tokens) = issued(scene.refresh("", &first, &grant));
    let rotated = *writes.grant.unwrap();
    let second = tokens.refresh.unwrap();
    assert_ne!(first, second);
    scene.now = NOW + Duration::minutes(9);
    let (writes, tokens) = issued(scene.refresh("", &first, &rotated));
    assert!(writes.grant.is_none());
    assert_eq!(tokens.refresh.unwrap(), second);
    let (writes, tokens) = issued(scene.refresh("", &second, &rotated));
    let third = tokens.refresh.unwrap();
    let rotated = *writes.grant.unwrap();
    let (_, tokens) = issued(scene.refresh("", &first, &rotated));
    assert_eq!(tokens.refresh.unwrap(), second, "two behind, still within the window");
    issued(scene.refresh("", &third, &rotated));
}

/// Random bytes that do not come again.
struct Hashed(u64);

impl RngCore for Hashed {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(32) {
            self.0 += 1;
            part.copy_from_slice(&Sha256::digest(self.0.to_be_bytes())[..part.len()]);
        }
    }
}

#[test]
fn however_often_processes_refresh_each_spent_token_has_its_whole_window() {
    let mut scene = scene();
    scene.rng = Box::new(Hashed(0));
    let (mut grant, tokens) = scene.issued();
    let mut chain = vec![tokens.refresh.unwrap()];
    let mut distinct = 1;
    // Five a second for half a minute, each with what the one before it stored.
    for call in 0..150 {
        scene.now = NOW + Duration::milliseconds(200 * call);
        let last = chain.last().unwrap().clone();
        let (writes, tokens) = issued(scene.refresh("", &last, &grant));
        let next = tokens.refresh.unwrap();
        if let Some(rotated) = writes.grant {
            grant = *rotated;
        }
        distinct += usize::from(next != last);
        chain.push(next);
    }
    assert!(distinct > 20, "they do rotate: {distinct}");
    let record = serde_json::to_string(&grant).unwrap().len();
    assert!(record < 8 << 10, "and the record is bounded: {record}");
    scene.now = NOW + Duration::seconds(7 * 60 + 45);
    for pair in chain.windows(2) {
        let (_, tokens) = issued(scene.refresh("", &pair[0], &grant));
        assert_eq!(tokens.refresh.unwrap(), pair[1]);
    }
    // Once the oldest have had their time, the last one is spent as well.
    scene.now = NOW + Duration::minutes(11);
    let last = chain.last().unwrap().clone();
    let (writes, tokens) = issued(scene.refresh("", &last, &grant));
    assert!(writes.grant.is_some() && tokens.refresh.unwrap() != last);
}

#[test]
fn a_spent_token_elsewhere_or_later_ends_the_grant() {
    let mut scene = scene();
    let (grant, tokens) = scene.issued();
    let first = tokens.refresh.unwrap();
    let (writes, tokens) = issued(scene.refresh("", &first, &grant));
    let rotated = *writes.grant.unwrap();
    let second = tokens.refresh.unwrap();

    scene.caller.node_id = "nThief".into();
    let (_, writes, suspicious) = refused(scene.refresh("", &first, &rotated));
    assert!(suspicious && writes.grant.unwrap().revoked);
    let (_, writes, suspicious) = refused(scene.refresh("", &second, &rotated));
    assert!(
        suspicious && writes.grant.is_none(),
        "the good one is not spent by a thief"
    );

    scene.caller.node_id = "nAlice".into();
    scene.now = NOW + Duration::minutes(10);
    let (_, writes, _) = refused(scene.refresh("", &first, &rotated));
    let ended = *writes.grant.unwrap();
    assert_eq!(refused(scene.refresh("", &second, &ended)).0, "invalid_grant");
}

#[test]
fn a_refresh_may_ask_for_less_and_never_for_more_or_after_the_end() {
    let mut scene = scene();
    let (grant, tokens) = scene.issued();
    let first = tokens.refresh.unwrap();
    let (_, tokens) = issued(scene.refresh("scope=openid&resource=https://MCP.example/mcp", &first, &grant));
    assert_eq!(tokens.access.claims()["scope"], "openid");
    assert_eq!(tokens.access.claims()["aud"], "https://mcp.example/mcp");
    assert_eq!(refused(scene.refresh("scope=admin", &first, &grant)).0, "invalid_scope");
    assert_eq!(
        refused(scene.refresh("resource=https://x.example", &first, &grant)).0,
        "invalid_target"
    );
    scene.client.id = crate::client::ClientId::from_request("c2");
    assert_eq!(refused(scene.refresh("", &first, &grant)).0, "invalid_grant");
    let mut late = super::tests::scene();
    late.now = NOW + Duration::days(30);
    assert_eq!(refused(late.refresh("", &first, &grant)).0, "invalid_grant");
}

#[test]
fn a_machine_acts_for_itself_within_what_its_owner_may() {
    let mut scene = scene();
    let ask = |scene: &mut Scene, form: &str| {
        let params = Params::parse(form.as_bytes());
        let asking = Asking {
            params: &params,
            client: &scene.client,
            caller: &scene.caller,
            live: scene.live.as_ref(),
            registrant: None,
            rules: &scene.rules,
            now: scene.now,
        };
        machine::issue(&asking, &mut *scene.rng)
    };
    assert_eq!(refused(ask(&mut scene, "")).0, "unauthorized_client");
    scene.client.auth_method = AuthMethod::ClientSecretBasic;
    scene.client.grant_types = vec![GrantType::ClientCredentials];
    let (_, tokens) = issued(ask(&mut scene, "resource=https://mcp.example&scope=mcp+openid+email"));
    assert_eq!(
        (&tokens.access.claims()["sub"], &tokens.access.claims()["scope"]),
        (&json!("c1"), &json!("mcp"))
    );
    assert!(tokens.id.is_none() && tokens.refresh.is_none());
    let token = AccessToken::read(serde_json::to_string(tokens.access.claims()).unwrap().as_bytes()).unwrap();
    let server = Caller {
        node_name: "mcp.example".into(),
        ..bob()
    };
    let active = |live: &Caller| {
        let standing = Standing {
            grant: None,
            live: Some(live),
            registrant: None,
            client: Some(&scene.client),
        };
        bearer::introspect(
            Some(&token),
            &standing,
            &Asker {
                caller: &server,
                client: None,
            },
            &scene.rules,
            NOW,
        )["active"]
            == true
    };
    assert!(active(&alice_with(&[ANY])));
    assert!(!active(&alice()), "its owner may no longer have the resource");
    scene.live = Some(alice());
    assert_eq!(
        refused(ask(&mut scene, "resource=https://mcp.example")).0,
        "invalid_target"
    );
    scene.live = None;
    assert_eq!(refused(ask(&mut scene, "")).0, "unauthorized_client");
    scene.live = Some(Caller {
        routes: true,
        ..alice_with(&[ANY])
    });
    assert_eq!(refused(ask(&mut scene, "")).0, "unauthorized_client");
    scene.live = Some(Caller {
        netmap_age: core::time::Duration::from_secs(86_401),
        ..alice_with(&[ANY])
    });
    assert_eq!(refused(ask(&mut scene, "")).0, "temporarily_unavailable");
}

#[test]
fn userinfo_and_introspection_ask_everything_again_and_tell_only_whom_they_should() {
    let mut scene = scene();
    let (grant, tokens) = scene.issued();
    let token = AccessToken::read(serde_json::to_string(tokens.access.claims()).unwrap().as_bytes()).unwrap();
    let live = alice_with(&[ANY]);
    let client = public_client();
    let good = Standing {
        grant: Some(&grant),
        live: Some(&live),
        registrant: None,
        client: Some(&client),
    };
    let server = Caller {
        node_name: "mcp.example".into(),
        ..bob()
    };
    let rules = token_rules();
    let by = |standing: &Standing<'_>, caller: &Caller, client: Option<&Client>, now| {
        bearer::introspect(Some(&token), standing, &Asker { caller, client }, &rules, now)["active"] == true
    };
    let active = |standing: &Standing<'_>, caller: &Caller, now| by(standing, caller, None, now);
    assert!(active(&good, &server, NOW));
    for unsure in [
        Caller {
            shared: true,
            ..server.clone()
        },
        Caller {
            routes: true,
            ..server.clone()
        },
    ] {
        assert!(!active(&good, &unsure, NOW), "nobody vouches for that name");
    }
    let denied = Caller {
        policy: Policy::parse([r#"{"countersign":{"deny":true,"users":["bob"]}}"#]),
        ..server.clone()
    };
    assert!(!active(&good, &denied, NOW), "its name does not outdo a denial");
    let renamed = Caller {
        who: crate::caller::Who::User {
            id: 1,
            login: "alice.b".into(),
            display_name: String::new(),
            picture: String::new(),
        },
        ..live.clone()
    };
    let now_called = Standing {
        live: Some(&renamed),
        ..good
    };
    let asker = Asker {
        caller: &server,
        client: None,
    };
    let told = bearer::introspect(Some(&token), &now_called, &asker, &rules, NOW);
    assert_eq!((&told["active"], &told["username"]), (&json!(true), &json!("alice.b")));
    let granted = |rule: &str| Caller {
        policy: Policy::parse([rule]),
        ..bob()
    };
    let holder = granted(r#"{"countersign":{"introspect":["https://mcp.example/*","https://mcp.example"]}}"#);
    assert!(active(&good, &holder, NOW));
    assert!(!active(
        &good,
        &granted(r#"{"countersign":{"introspect":["https://other.example"]}}"#),
        NOW
    ));
    assert!(
        !active(&good, &granted(r#"{"allow_admin_ui":true}"#), NOW),
        "the admin page is another thing"
    );
    let for_client = granted(r#"{"countersign":{"introspect":["*"],"clients":["gateway"]}}"#);
    let gateway = Client {
        id: ClientId::from_request("gateway"),
        auth_method: AuthMethod::ClientSecretBasic,
        ..public_client()
    };
    assert!(by(&good, &for_client, Some(&gateway), NOW));
    assert!(!by(&good, &bob(), Some(&gateway), NOW), "the rule is another node's");
    assert!(!by(&good, &for_client, None, NOW));
    let public = Client {
        auth_method: AuthMethod::None,
        ..gateway
    };
    assert!(
        !by(&good, &for_client, Some(&public), NOW),
        "a public client proves nothing"
    );
    assert!(!active(&good, &bob(), NOW), "bob's node is not the audience");
    assert!(!active(&good, &server, NOW + token_rules().access_lifetime));
    assert!(!active(&Standing { client: None, ..good }, &server, NOW));
    assert!(!active(&Standing { live: None, ..good }, &server, NOW));
    assert!(
        !active(
            &Standing {
                live: Some(&alice()),
                ..good
            },
            &server,
            NOW
        ),
        "the grant was withdrawn"
    );
    let revoked = Grant {
        revoked: true,
        ..grant.clone()
    };
    assert!(!active(
        &Standing {
            grant: Some(&revoked),
            ..good
        },
        &server,
        NOW
    ));
    assert!(
        bearer::userinfo(&token, &good, &rules, NOW).is_err(),
        "a resource's token is not for us"
    );

    let mut plain = code();
    plain.authorization.resources.clear();
    let (writes, tokens) = issued(scene.redeem(&verifier(), Some(plain), None));
    let token = AccessToken::read(serde_json::to_string(tokens.access.claims()).unwrap().as_bytes()).unwrap();
    let grant = writes.grant.unwrap();
    let standing = Standing {
        grant: Some(&grant),
        ..good
    };
    let claims = bearer::userinfo(&token, &standing, &rules, NOW).unwrap();
    assert_eq!(claims["sub"], "userid:1");
}

#[test]
fn what_others_have_of_a_client_ends_when_it_is_published_no_longer() {
    let mut scene = scene();
    let publishes = [r#"{"countersign":{"publish_clients":true}}"#];
    let bobs = Caller {
        policy: Policy::parse([ANY]),
        ..bob()
    };
    (scene.caller, scene.live) = (bobs.clone(), Some(bobs.clone()));
    scene.registrant = Some(alice_with(&publishes));
    let mut code = code();
    code.authorization.subject = Subject::of(&bobs);
    code.authorization.published_by = Publisher::of(&scene.client, &bobs);
    let (writes, tokens) = issued(scene.redeem(&verifier(), Some(code.clone()), None));
    let (grant, token) = (writes.grant.unwrap(), tokens.refresh.unwrap());
    issued(scene.refresh("", &token, &grant));
    let access = AccessToken::read(serde_json::to_string(tokens.access.claims()).unwrap().as_bytes()).unwrap();
    let server = Caller {
        node_name: "mcp.example".into(),
        ..alice()
    };
    let active = |registrant: Option<&Caller>, client: &Client| {
        let standing = Standing {
            grant: Some(&grant),
            live: Some(&bobs),
            registrant,
            client: Some(client),
        };
        let asker = Asker {
            caller: &server,
            client: None,
        };
        bearer::introspect(Some(&access), &standing, &asker, &token_rules(), NOW)["active"] == true
    };
    assert!(active(scene.registrant.as_ref(), &scene.client));
    assert!(!active(Some(&alice()), &scene.client));
    scene.registrant = Some(alice());
    for outcome in [
        scene.refresh("", &token, &grant),
        scene.redeem(&verifier(), Some(code), None),
    ] {
        let Outcome::Refused { error, .. } = outcome else {
            panic!("tokens were issued")
        };
        assert_eq!(error.code(), ErrorCode::InvalidGrant);
        assert!(error.description().contains("no longer published"), "{error}");
    }
    scene.client = publish::publish(scene.client.clone(), "root", NOW);
    assert!(active(None, &scene.client));
    issued(scene.refresh("", &token, &grant));
}

#[test]
fn a_new_publication_brings_back_nothing_that_rested_on_an_earlier_one() {
    let mut scene = scene();
    let bobs = Caller {
        policy: Policy::parse([ANY]),
        ..bob()
    };
    (scene.caller, scene.live) = (bobs.clone(), Some(bobs.clone()));
    scene.client = publish::publish(scene.client.clone(), "root", NOW);
    let mut code = code();
    code.authorization.subject = Subject::of(&bobs);
    code.authorization.publication = publish::publication_for(&scene.client, &bobs.owner());
    let (writes, tokens) = issued(scene.redeem(&verifier(), Some(code), None));
    let (grant, token) = (writes.grant.unwrap(), tokens.refresh.unwrap());
    issued(scene.refresh("", &token, &grant));
    let back = publish::take_back(scene.client.clone());
    for client in [back.clone(), publish::publish(back, "root", NOW)] {
        scene.client = client;
        let (error, writes, _) = refused(scene.refresh("", &token, &grant));
        assert_eq!(error, "invalid_grant");
        assert!(writes.grant.is_none());
    }
}
