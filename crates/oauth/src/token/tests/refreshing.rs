//! Refresh tokens: a chain in which each is spent once, and the same node may lose an answer.

use sha2::{Digest as _, Sha256};

use super::*;

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

/// OpenID Connect Core 12.2: the same authentication, and no `nonce`, which belongs to the request that led to it.
#[test]
fn an_id_token_of_a_refresh_tells_of_the_same_login_without_its_nonce() {
    let mut scene = scene();
    let (grant, tokens) = scene.issued();
    let (first, token) = (tokens.id.unwrap(), tokens.refresh.unwrap());
    assert_eq!(first["nonce"], "n");
    let (writes, rotated) = issued(scene.refresh("", &token, &grant));
    let (_, graced) = issued(scene.refresh("", &token, &writes.grant.unwrap()));
    for again in [rotated.id.unwrap(), graced.id.unwrap()] {
        assert_eq!(again.get("nonce"), None);
        for claim in ["iss", "sub", "aud", "auth_time"] {
            assert_eq!(again[claim], first[claim], "{claim}");
        }
    }
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
    let mut late = super::scene();
    late.now = NOW + Duration::days(30);
    assert_eq!(refused(late.refresh("", &first, &grant)).0, "invalid_grant");
}
