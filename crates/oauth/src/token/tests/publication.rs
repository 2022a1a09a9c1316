//! What rests on a publication.

use super::*;

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
    let access = access_token(&tokens);
    let (grant, token) = (writes.grant.unwrap(), tokens.refresh.unwrap());
    issued(scene.refresh("", &token, &grant));
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
