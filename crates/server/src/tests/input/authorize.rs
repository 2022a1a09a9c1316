//! `/authorize`: what goes back to the client.

use super::*;

/// Parameters that are sent besides.
type Pairs<'a> = Vec<(&'a str, &'a str)>;

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one table")]
async fn the_authorization_endpoint_tells_the_client_what_is_wrong() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let long_nonce = "n".repeat(513);
    let many_scopes = (0..65).map(|n| format!("s{n}")).collect::<Vec<_>>().join(" ");
    let many_resources: Vec<_> = (0..9).map(|n| format!("https://r{n}.example/")).collect();
    let nine: Vec<(&str, &str)> = many_resources.iter().map(|uri| ("resource", uri.as_str())).collect();
    let long_resource = format!("https://r.example/{}", "r".repeat(1024));
    let rows: Vec<(Pairs<'_>, &str, &str)> = vec![
        (vec![("state", "again")], "invalid_request", "state was"),
        (vec![("response_type", "code")], "invalid_request", "response_type was"),
        (
            vec![("code_challenge", "again")],
            "invalid_request",
            "code_challenge was",
        ),
        (
            vec![("code_challenge_method", "plain")],
            "invalid_request",
            "code_challenge_method was",
        ),
        (vec![("scope", "a"), ("scope", "b")], "invalid_request", "scope was"),
        (vec![("nonce", "a"), ("nonce", "b")], "invalid_request", "nonce was"),
        (vec![("nonce", &long_nonce)], "invalid_request", "nonce"),
        (vec![("max_age", "soon")], "invalid_request", "max_age"),
        (vec![("max_age", "-1")], "invalid_request", "max_age"),
        (vec![("max_age", "+1")], "invalid_request", "max_age"),
        (vec![("nonce", "a\u{fffd}")], "invalid_request", "nonce has"),
        (
            vec![("max_age", "1"), ("max_age", "2")],
            "invalid_request",
            "max_age was",
        ),
        (
            vec![("prompt", "login"), ("prompt", "none")],
            "invalid_request",
            "prompt was",
        ),
        (vec![("response_mode", "fragment")], "invalid_request", "response_mode"),
        (vec![("request", "e30.e30.")], "request_not_supported", "request"),
        (vec![("scope", &many_scopes)], "invalid_scope", "scope"),
        (vec![("resource", "mcp")], "invalid_target", "resource"),
        (
            vec![("resource", "https://r.example/#f")],
            "invalid_target",
            "resource must not have a fragment",
        ),
        (
            vec![("resource", "https://u:p@r.example/")],
            "invalid_target",
            "resource",
        ),
        (vec![("resource", &long_resource)], "invalid_target", "resource"),
        (nine, "invalid_target", "resource"),
    ];
    for (extra, error, word) in rows {
        let answer = alice.get(&authorize_path(&id, &extra)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{word}: {}", answer.text);
        assert!(answer.header("location").starts_with(REDIRECT));
        assert_error(&answer, error, word, word);
    }
}

#[tokio::test]
async fn the_authorization_endpoint_tells_the_client_what_it_changed_or_left_out() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let long_state = "s".repeat(2049);
    let whole = authorize_path(&id, &[]);
    for (from, to, error, word) in [
        ("response_type=code&", "", "invalid_request", "response_type is missing"),
        (
            "response_type=code&",
            "response_type=token&",
            "unsupported_response_type",
            "response_type",
        ),
        (
            "response_type=code&",
            "response_type=code+id_token&",
            "unsupported_response_type",
            "response_type",
        ),
        ("st%26ate", &long_state, "invalid_request", "state is longer"),
        ("st%26ate", "a%0Ab", "invalid_request", "state has"),
        ("st%26ate", "%FF", "invalid_request", "state has"),
        (
            "code_challenge_method=S256",
            "code_challenge_method=plain",
            "invalid_request",
            "code_challenge_method",
        ),
        (
            "&code_challenge_method=S256",
            "",
            "invalid_request",
            "code_challenge_method",
        ),
        (
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "short",
            "invalid_request",
            "code_challenge",
        ),
        (
            "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
            "",
            "invalid_request",
            "code_challenge is missing",
        ),
    ] {
        assert!(whole.contains(from), "{from}");
        let answer = alice.get(&whole.replace(from, to)).await;
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{word}: {}", answer.text);
        assert_error(&answer, error, word, word);
    }
}

#[tokio::test]
async fn what_is_wrong_with_state_or_mode_goes_back_in_the_other() {
    let rig = Rig::start(config()).await;
    let mut alice = rig.client(&alice()).await;
    let id = registered(&mut alice).await;
    let posted = authorize_path(&id, &[("response_mode", "form_post")]).replace("st%26ate", "a%0Ab");
    let answer = alice.get(&posted).await;
    assert_eq!((answer.status, answer.header("location")), (StatusCode::OK, ""));
    assert!(answer.text.contains("value=\"invalid_request\""), "{}", answer.text);
    assert!(!answer.text.contains("name=\"state\""), "{}", answer.text);
    let fragment = alice.get(&authorize_path(&id, &[("response_mode", "fragment")])).await;
    assert!(fragment.header("location").ends_with("state=st%26ate"));
}
