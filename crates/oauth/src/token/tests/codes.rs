//! Codes: who redeems them, once.

use super::*;

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
