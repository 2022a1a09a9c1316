//! What introspection and userinfo tell of a token, and to whom.

use super::*;

/// A token for `https://mcp.example/mcp` and all that it rests on.
struct Held {
    token: AccessToken,
    grant: Grant,
    live: Caller,
    client: Client,
}

fn held() -> Held {
    let (grant, tokens) = scene().issued();
    Held {
        token: access_token(&tokens),
        grant,
        live: alice_with(&[ANY]),
        client: public_client(),
    }
}

impl Held {
    fn standing(&self) -> Standing<'_> {
        Standing {
            grant: Some(&self.grant),
            live: Some(&self.live),
            registrant: None,
            client: Some(&self.client),
        }
    }

    fn told(&self, standing: &Standing<'_>, caller: &Caller, client: Option<&Client>, now: OffsetDateTime) -> Value {
        let asker = Asker { caller, client };
        bearer::introspect(Some(&self.token), standing, &asker, &token_rules(), now)
    }

    /// Whether `caller` and `client` learn of it while everything stands.
    fn is_told(&self, caller: &Caller, client: Option<&Client>) -> bool {
        self.told(&self.standing(), caller, client, NOW)["active"] == true
    }
}

/// The node of the audience.
fn server() -> Caller {
    Caller {
        node_name: "mcp.example".into(),
        ..bob()
    }
}

fn granted(rule: &str) -> Caller {
    Caller {
        policy: Policy::parse([rule]),
        ..bob()
    }
}

#[test]
fn introspection_is_for_the_audience_whose_name_is_vouched_for() {
    let held = held();
    assert!(held.is_told(&server(), None));
    assert!(!held.is_told(&bob(), None), "bob's node is not the audience");
    for unsure in [
        Caller {
            shared: true,
            ..server()
        },
        Caller {
            routes: true,
            ..server()
        },
    ] {
        assert!(!held.is_told(&unsure, None), "nobody vouches for that name");
    }
    let denied = Caller {
        policy: Policy::parse([r#"{"countersign":{"deny":true,"users":["bob"]}}"#]),
        ..server()
    };
    assert!(!held.is_told(&denied, None), "its name does not outdo a denial");
}

#[test]
fn a_rule_opens_introspection_to_its_node_or_to_the_client_there_that_proves_itself() {
    let held = held();
    let holder = granted(r#"{"countersign":{"introspect":["https://mcp.example/*","https://mcp.example"]}}"#);
    assert!(held.is_told(&holder, None));
    let elsewhere = granted(r#"{"countersign":{"introspect":["https://other.example"]}}"#);
    assert!(!held.is_told(&elsewhere, None));
    assert!(
        !held.is_told(&granted(r#"{"allow_admin_ui":true}"#), None),
        "the admin page is another thing"
    );
    let for_client = granted(r#"{"countersign":{"introspect":["*"],"clients":["gateway"]}}"#);
    let gateway = Client {
        id: ClientId::from_request("gateway"),
        auth_method: AuthMethod::ClientSecretBasic,
        ..public_client()
    };
    assert!(held.is_told(&for_client, Some(&gateway)));
    assert!(!held.is_told(&bob(), Some(&gateway)), "the rule is another node's");
    assert!(!held.is_told(&for_client, None));
    let public = Client {
        auth_method: AuthMethod::None,
        ..gateway
    };
    assert!(
        !held.is_told(&for_client, Some(&public)),
        "a public client proves nothing"
    );
}

#[test]
fn introspection_asks_everything_again_and_says_what_the_user_is_called_now() {
    let held = held();
    let good = held.standing();
    let active = |standing: &Standing<'_>, now| held.told(standing, &server(), None, now)["active"] == true;
    assert!(active(&good, NOW));
    assert!(!active(&good, NOW + token_rules().access_lifetime));
    assert!(!active(&Standing { client: None, ..good }, NOW));
    assert!(!active(&Standing { live: None, ..good }, NOW));
    let live = Some(&alice());
    assert!(!active(&Standing { live, ..good }, NOW), "the grant was withdrawn");
    let revoked = Grant {
        revoked: true,
        ..held.grant.clone()
    };
    let grant = Some(&revoked);
    assert!(!active(&Standing { grant, ..good }, NOW));

    let renamed = Caller {
        who: crate::caller::Who::User {
            id: 1,
            login: "alice.b".into(),
            display_name: String::new(),
            picture: String::new(),
        },
        ..held.live.clone()
    };
    let live = Some(&renamed);
    let told = held.told(&Standing { live, ..good }, &server(), None, NOW);
    assert_eq!((&told["active"], &told["username"]), (&json!(true), &json!("alice.b")));
}

#[test]
fn userinfo_is_for_tokens_that_are_for_us() {
    let held = held();
    assert!(
        bearer::userinfo(&held.token, &held.standing(), &token_rules(), NOW).is_err(),
        "a resource's token is not for us"
    );
    let mut plain = code();
    plain.authorization.resources.clear();
    let (writes, tokens) = issued(scene().redeem(&verifier(), Some(plain), None));
    let grant = writes.grant.unwrap();
    let standing = Standing {
        grant: Some(&grant),
        ..held.standing()
    };
    let claims = bearer::userinfo(&access_token(&tokens), &standing, &token_rules(), NOW).unwrap();
    assert_eq!(claims["sub"], "userid:1");
}
