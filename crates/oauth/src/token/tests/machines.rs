//! Clients that act for themselves.

use super::*;

/// A client that proves itself, of alice's, and may act for itself.
fn machine_scene() -> Scene {
    let mut scene = scene();
    scene.client.auth_method = AuthMethod::ClientSecretBasic;
    scene.client.grant_types = vec![GrantType::ClientCredentials];
    scene
}

impl Scene {
    fn act(&mut self, form: &str) -> Outcome {
        self.ask(form, machine::issue)
    }
}

#[test]
fn a_machine_acts_for_itself_within_what_its_owner_may() {
    assert_eq!(refused(scene().act("")).0, "unauthorized_client");
    let mut scene = machine_scene();
    let (_, tokens) = issued(scene.act("resource=https://mcp.example&scope=mcp+openid+email"));
    assert_eq!(
        (&tokens.access.claims()["sub"], &tokens.access.claims()["scope"]),
        (&json!("c1"), &json!("mcp"))
    );
    assert!(tokens.id.is_none() && tokens.refresh.is_none());
    let token = access_token(&tokens);
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
    assert_eq!(refused(scene.act("resource=https://mcp.example")).0, "invalid_target");
    scene.live = None;
    assert_eq!(refused(scene.act("")).0, "unauthorized_client");
    scene.live = Some(Caller {
        routes: true,
        ..alice_with(&[ANY])
    });
    assert_eq!(refused(scene.act("")).0, "unauthorized_client");
    scene.live = Some(Caller {
        netmap_age: core::time::Duration::from_secs(86_401),
        ..alice_with(&[ANY])
    });
    assert_eq!(refused(scene.act("")).0, "temporarily_unavailable");
}

#[test]
fn a_machine_is_a_client_that_proves_itself_registered_by_a_node_that_is_still_its_owners() {
    let mut scene = machine_scene();
    scene.client.scope = Some(vec!["read".into()]);
    let (_, tokens) = issued(scene.act("scope=read+write"));
    assert_eq!(tokens.scopes, ["read"], "it registered no other");
    let token = access_token(&tokens);
    let standing = Standing {
        grant: None,
        live: scene.live.as_ref(),
        registrant: None,
        client: Some(&scene.client),
    };
    let told = bearer::userinfo(&token, &standing, &scene.rules, NOW);
    assert!(told.is_err(), "it is nobody about whom there is something to tell");
    for live in [
        Caller {
            who: bob().who,
            ..alice_with(&[ANY])
        },
        Caller {
            node_id: "nAnother".into(),
            ..alice_with(&[ANY])
        },
    ] {
        scene.live = Some(live);
        assert_eq!(refused(scene.act("scope=read+write")).0, "unauthorized_client");
    }
    scene.live = Some(alice_with(&[ANY]));
    scene.client.auth_method = AuthMethod::None;
    assert_eq!(refused(scene.act("scope=read+write")).0, "unauthorized_client");
}
