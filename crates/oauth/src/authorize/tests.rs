use proptest::prelude::*;
use time::macros::datetime;
use url::form_urlencoded;

use super::*;
use crate::tests_support::{alice, alice_with, bob, public_client, token_rules};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const GOOD: &str = "response_type=code&client_id=c1&redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcb%3Fx%3D1&state=s%20t\
                    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

fn ask(form: &str, client: Option<&Client>, caller: &Caller, registrant: Option<&Caller>) -> Outcome {
    let params = Params::parse(form.as_bytes());
    authorize(&params, None, client, caller, registrant, &token_rules().authorize, NOW)
}

fn asked(form: &str, caller: &Caller) -> Request {
    match ask(form, Some(&public_client()), caller, None) {
        Outcome::Valid(request) => *request,
        other => panic!("{other:?}"),
    }
}

fn redirected(form: &str) -> (String, String) {
    match ask(form, Some(&public_client()), &alice(), None) {
        Outcome::Redirect(answer) => (answer.error.unwrap().code().as_str().to_owned(), answer.location),
        other => panic!("{other:?}"),
    }
}

fn paged(form: &str, client: Option<&Client>, caller: &Caller) -> PageError {
    match ask(form, client, caller, None) {
        Outcome::Page(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_request_is_understood() {
    let request = asked(&format!("{GOOD}&nonce=n&max_age=60&prompt=login"), &alice());
    assert_eq!(
        (request.state.as_deref(), request.nonce.as_deref()),
        (Some("s t"), Some("n"))
    );
    assert_eq!((request.prompt, request.max_age), (Prompt::Login, Some(60)));
}

#[test]
fn a_bad_client_or_redirect_is_never_redirected_to() {
    let client = public_client();
    assert_eq!(paged(GOOD, None, &alice()), PageError::UnknownClient);
    let other = GOOD.replace("%2Fcb", "%2Fother");
    assert_eq!(paged(&other, Some(&client), &alice()), PageError::Redirect);
    let evil = GOOD.replace("http%3A%2F%2Flocalhost", "https%3A%2F%2Fevil.example");
    assert_eq!(paged(&evil, Some(&client), &alice()), PageError::Redirect);
    let none = GOOD.replace("redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcb%3Fx%3D1", "");
    assert!(matches!(ask(&none, Some(&client), &alice(), None), Outcome::Valid(_)));
    let openid = paged(&format!("{none}&scope=email+openid"), Some(&client), &alice());
    assert!(openid.to_string().contains("redirect_uri is missing"), "{openid}");
    let twice = format!("{GOOD}&redirect_uri=http%3A%2F%2Flocalhost%2Fcb");
    assert!(matches!(paged(&twice, Some(&client), &alice()), PageError::Request(_)));
    assert!(client_id(&Params::parse(b"client_id=a&client_id=b")).is_err());
}

#[test]
fn errors_go_back_with_issuer_and_state_behind_the_registered_query() {
    let (code, location) = redirected(&GOOD.replace("response_type=code", "response_type=token"));
    assert_eq!(code, "unsupported_response_type");
    assert!(
        location.starts_with("http://localhost:5000/cb?x=1&error="),
        "{location}"
    );
    assert!(
        location.contains("iss=https%3A%2F%2Fidp.example.ts.net") && location.ends_with("state=s+t"),
        "{location}"
    );
}

#[test]
fn each_unsupported_or_missing_parameter_has_its_error() {
    for (form, code) in [
        (GOOD.replace("response_type=code", ""), "invalid_request"),
        (GOOD.replace("S256", "plain"), "invalid_request"),
        (GOOD.replace("code_challenge=E9", "x=E9"), "invalid_request"),
        (format!("{GOOD}&request=x"), "request_not_supported"),
        (format!("{GOOD}&request_uri=urn:x"), "request_uri_not_supported"),
        (format!("{GOOD}&response_mode=fragment"), "invalid_request"),
        (format!("{GOOD}&prompt=none+login"), "invalid_request"),
        (format!("{GOOD}&max_age=-1"), "invalid_request"),
        (format!("{GOOD}&max_age=old"), "invalid_request"),
        (format!("{GOOD}&resource=relative"), "invalid_target"),
        (format!("{GOOD}&nonce={}", "n".repeat(600)), "invalid_request"),
        (format!("{GOOD}&scope=a&scope=b"), "invalid_request"),
    ] {
        assert_eq!(redirected(&form).0, code, "{form}");
    }
    let ignored = "prompt=login&max_age=0&ui_locales=de&claims_locales=de&display=popup&acr_values=9&claims=%7B%7D\
                   &unknown=1&login_hint=bob";
    asked(&format!("{GOOD}&{ignored}"), &alice());
}

#[test]
fn a_repeated_parameter_is_named_and_only_resource_may_be_repeated() {
    let all = alice_with(&[r#"{"users":["*"],"resources":["*"]}"#]);
    let two = format!("{GOOD}&resource=https://a.example/1&resource=https://a.example/2");
    assert_eq!(asked(&two, &all).resources.len(), 2);
    for name in ["nonce", "prompt", "max_age", "id_token_hint", "display", "made-up"] {
        let (code, location) = redirected(&format!("{GOOD}&{name}=login&{name}=login"));
        assert_eq!(code, "invalid_request");
        assert!(
            location.contains(&format!("{name}+was+sent+more+than+once")),
            "{location}"
        );
    }
}

#[test]
fn scopes_are_reduced_and_never_refused() {
    let scopes = |form: &str, caller: &Caller| asked(form, caller).scopes.join(" ");
    assert_eq!(scopes(GOOD, &alice()), "");
    assert_eq!(
        scopes(&format!("{GOOD}&scope=openid+mcp:tools+email+openid"), &alice()),
        "openid email"
    );
    let with_resource = format!("{GOOD}&scope=openid+mcp:tools&resource=https://mcp.example/mcp");
    let all = alice_with(&[r#"{"users":["*"],"resources":["*"]}"#]);
    assert_eq!(scopes(&with_resource, &all), "openid mcp:tools");
    let some = alice_with(&[
        r#"{"countersign":{"users":["alice"],"resources":["https://mcp.example/*"],"scopes":["mcp:tools","mcp:admin"]}}"#,
    ]);
    assert_eq!(scopes(&with_resource, &some), "mcp:tools");
}

#[test]
fn a_resource_needs_a_rule_for_the_user() {
    let form = format!("{GOOD}&resource=https://mcp.example/mcp");
    let refused = |caller: &Caller| match ask(&form, Some(&public_client()), caller, None) {
        Outcome::Redirect(answer) => answer.error.unwrap(),
        other => panic!("{other:?}"),
    };
    assert!(refused(&alice()).description().contains("https://mcp.example/mcp"));
    assert_eq!(
        refused(&alice_with(&[r#"{"users":["bob"],"resources":["*"]}"#])).code(),
        ErrorCode::AccessDenied
    );
    let denied = alice_with(&[
        r#"{"users":["*"],"resources":["*"]}"#,
        r#"{"countersign":{"deny":true,"resources":["https://mcp.example/*"]}}"#,
    ]);
    assert!(refused(&denied).description().contains("rule 2"));
}

#[test]
fn a_client_is_its_owners_until_its_node_publishes_it() {
    let client = public_client();
    let error = paged(GOOD, Some(&client), &bob());
    assert!(
        matches!(&error, PageError::NotYours(whose) if whose.user == "alice"),
        "{error}"
    );
    let publisher = alice_with(&[r#"{"countersign":{"publish_clients":true}}"#]);
    assert!(matches!(
        ask(GOOD, Some(&client), &bob(), Some(&publisher)),
        Outcome::Valid(_)
    ));
    let elsewhere = Caller {
        node_id: "nOther".into(),
        ..publisher
    };
    assert!(matches!(
        ask(GOOD, Some(&client), &bob(), Some(&elsewhere)),
        Outcome::Page(_)
    ));
    let other_laptop = Caller {
        node_id: "nAlice2".into(),
        ..alice()
    };
    assert!(matches!(
        ask(GOOD, Some(&client), &other_laptop, None),
        Outcome::Valid(_)
    ));
}

proptest! {
    #[test]
    fn no_request_redirects_to_where_the_client_did_not_register(
        uri in "(https?://(localhost|evil\\.example)(:[0-9]{1,5})?/cb(\\?x=1)?|cursor://x)", rest in "\\PC{0,40}",
    ) {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("client_id", "c1").append_pair("redirect_uri", &uri).append_pair("state", &rest);
        match ask(&form.finish(), Some(&public_client()), &alice(), None) {
            Outcome::Redirect(answer) => {
                let lands = url::Url::parse(&answer.location).unwrap();
                prop_assert_eq!(lands.host_str(), Some("localhost"));
                prop_assert_eq!(lands.path(), "/cb");
                prop_assert!(lands.query().unwrap().starts_with("x=1&"));
            }
            Outcome::Page(_) => {}
            Outcome::Valid(_) => prop_assert!(false, "no PKCE was sent"),
        }
    }
}
