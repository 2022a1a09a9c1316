//! From which nodes codes are redeemed and tokens refreshed, and whose word counts for that.

use super::*;
use crate::{caller::Who, options::Options};

#[test]
fn an_old_netmap_refuses_for_now_and_spends_nothing() {
    let old = Caller {
        netmap_age: core::time::Duration::from_secs(86_401),
        ..alice_with(&[ANY])
    };
    let (grant, tokens) = scene().issued();
    let first = tokens.refresh.unwrap();
    let (writes, tokens) = issued(scene().refresh("", &first, &grant));
    let (rotated, second) = (*writes.grant.unwrap(), tokens.refresh.unwrap());
    for method in [AuthMethod::None, AuthMethod::ClientSecretBasic] {
        let mut cut_off = scene();
        (cut_off.caller, cut_off.live) = (old.clone(), Some(old.clone()));
        cut_off.client.auth_method = method;
        for outcome in [
            cut_off.redeem(&verifier(), Some(code()), None),
            cut_off.refresh("", &first, &rotated),
            cut_off.refresh("", &second, &rotated),
        ] {
            let (error, writes, suspicious) = refused(outcome);
            assert_eq!(
                (error.as_str(), suspicious),
                ("temporarily_unavailable", false),
                "{method:?}"
            );
            assert!(writes.code.is_none() && writes.grant.is_none());
        }
    }
}

/// Changes that make a node nobody's, or somebody else's.
fn nobodys() -> [Caller; 3] {
    let alice = alice_with(&[ANY]);
    [
        Caller {
            routes: true,
            ..alice.clone()
        },
        Caller {
            shared: true,
            ..alice.clone()
        },
        Caller {
            who: bob().who,
            ..alice
        },
    ]
}

#[test]
fn a_node_whose_word_nobody_takes_holds_no_token_of_a_public_client() {
    for node in nobodys() {
        for registering in [false, true] {
            let mut scene = scene();
            scene.caller = Caller {
                node_id: "nAlice2".into(),
                ..node.clone()
            };
            if registering {
                scene.client.registrant.node_id = "nAlice2".into();
            }
            let (error, writes, suspicious) = refused(scene.redeem(&verifier(), Some(code()), None));
            assert_eq!((error.as_str(), suspicious), ("invalid_grant", true), "{node:?}");
            assert!(writes.code.is_none() && writes.grant.is_none());
            scene.client.auth_method = AuthMethod::ClientSecretBasic;
            issued(scene.redeem(&verifier(), Some(code()), None));
        }
    }
}

#[test]
fn a_second_node_that_changed_hands_refreshes_no_more() {
    let mut scene = scene();
    scene.caller.node_id = "nAlice2".into();
    let (grant, tokens) = scene.issued();
    let token = tokens.refresh.unwrap();
    issued(scene.refresh("", &token, &grant));
    for node in nobodys() {
        scene.caller = Caller {
            node_id: "nAlice2".into(),
            ..node
        };
        let (error, writes, _) = refused(scene.refresh("", &token, &grant));
        assert_eq!(error, "invalid_grant");
        assert!(writes.grant.is_none(), "it may be alice's again");
    }
}

#[test]
fn a_public_client_redeems_and_refreshes_where_it_says_while_it_says_so() {
    let server = Caller {
        node_id: "nServer".into(),
        who: Who::Tagged(vec!["tag:web".into(), "tag:app".into()]),
        ..alice()
    };
    let listing = |places: serde_json::Value| Options {
        redeem_from: serde_json::from_value(places).unwrap(),
        ..Options::default()
    };
    for (places, may) in [
        (json!(["tag:app"]), true),
        (json!(["nOther", "nServer"]), true),
        (json!(["tag:ap", "nServe", "alice"]), false),
        (json!([]), false),
    ] {
        let mut scene = scene();
        scene.caller = server.clone();
        scene.client.options = listing(places.clone());
        let outcome = scene.redeem(&verifier(), Some(code()), None);
        if !may {
            let (error, writes, suspicious) = refused(outcome);
            assert_eq!((error.as_str(), suspicious), ("invalid_grant", true), "{places}");
            assert!(writes.code.is_none());
            continue;
        }
        let (writes, tokens) = issued(outcome);
        let (grant, token) = (writes.grant.unwrap(), tokens.refresh.unwrap());
        assert_eq!(tokens.access.claims()["cnf"], json!({"tailnet_node": "nServer"}));
        issued(scene.refresh("", &token, &grant));
        scene.client.options = listing(json!(["tag:another"]));
        assert_eq!(
            refused(scene.refresh("", &token, &grant)).0,
            "invalid_grant",
            "{places}"
        );
    }
    // A user's login name is nobody's tag, and a node of a person has none.
    let mut scene = scene();
    scene.caller = bob();
    scene.client.options = listing(json!(["tag:app", "bob"]));
    assert_eq!(
        refused(scene.redeem(&verifier(), Some(code()), None)).0,
        "invalid_grant"
    );
}

#[test]
fn what_alice_granted_is_not_for_whoever_has_her_node_now() {
    let mut scene = scene();
    scene.client.auth_method = AuthMethod::ClientSecretBasic;
    let (grant, tokens) = scene.issued();
    let token = tokens.refresh.unwrap();
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
        assert_eq!(
            refused(scene.redeem(&verifier(), Some(code()), None)).0,
            "invalid_grant"
        );
        assert_eq!(refused(scene.refresh("", &token, &grant)).0, "invalid_grant");
    }
}
