use proptest::prelude::*;
use time::macros::datetime;

use super::*;
use crate::tests_support::{Counting, alice, public_client, token_rules};

const NOW: OffsetDateTime = datetime!(2026-11-24 12:00 UTC);
const GOOD: &str = "response_type=code&redirect_uri=http%3A%2F%2Flocalhost%3A5000%2Fcb%3Fx%3D1&state=s&client_secret=hush\
                    &code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM&code_challenge_method=S256";

fn pushed(form: &str) -> Result<(Pushed, Response), OAuthError> {
    let params = Params::parse(form.as_bytes());
    let rules = token_rules().authorize;
    push(
        &params,
        &public_client(),
        &alice(),
        &rules,
        NOW,
        &mut Counting::default(),
    )
}

#[test]
fn what_has_no_value_is_not_kept() {
    let (pushed, _) = pushed(&format!("{GOOD}{}", "&=&a=".repeat(9000))).unwrap();
    assert!(serde_json::to_string(&pushed).unwrap().len() < 1000);
}

#[test]
fn a_request_is_kept_without_credentials_under_the_hash_of_its_reference() {
    let (pushed, response) = pushed(GOOD).unwrap();
    assert_eq!(response.expires_in, 60);
    let stored = serde_json::to_string(&pushed).unwrap();
    let secret = response.request_uri.strip_prefix(URN).unwrap();
    assert!(secret.len() == 43 && !stored.contains(secret), "{stored}");
    assert!(
        !stored.contains("hush") && !stored.contains("client_secret"),
        "{stored}"
    );
    assert_eq!(pushed.params.one("client_id").unwrap(), Some("c1"));
    assert_eq!(serde_json::from_str::<Pushed>(&stored).unwrap(), pushed);

    let brought = Params::parse(format!("request_uri={}", response.request_uri.replace(':', "%3A")).as_bytes());
    assert_eq!(referred(&brought), Ok(Some(pushed.hash)));
    for other in ["", "request_uri=https://app.example/request.jwt", "request_uri=urn:x"] {
        assert_eq!(referred(&Params::parse(other.as_bytes())), Ok(None), "{other}");
    }
    assert!(referred(&Params::parse(b"request_uri=a&request_uri=b")).is_err());
}

#[test]
fn a_reference_is_good_for_one_client_and_one_minute() {
    let (pushed, _) = pushed(GOOD).unwrap();
    let client = ClientId::from_request("c1");
    let at = |seconds| resolve(Some(pushed.clone()), &client, NOW + Duration::seconds(seconds));
    assert!(at(59).is_ok());
    assert_eq!(at(60), Err(PageError::Pushed));
    let other = resolve(Some(pushed.clone()), &ClientId::from_request("c2"), NOW);
    assert_eq!(other, Err(PageError::Pushed));
    assert_eq!(resolve(None, &client, NOW), Err(PageError::Pushed));
    assert_eq!(pushed.forgotten_at(), NOW + LIFETIME + TICKET_LIFETIME);
}

#[test]
fn what_authorize_would_refuse_is_refused_when_it_is_pushed() {
    for (form, code) in [
        (format!("{GOOD}&request_uri=urn%3Ax"), ErrorCode::InvalidRequest),
        (format!("{GOOD}&request=x"), ErrorCode::RequestNotSupported),
        (GOOD.replace("S256", "plain"), ErrorCode::InvalidRequest),
        (GOOD.replace("localhost", "evil.example"), ErrorCode::InvalidRequest),
        (
            GOOD.replace("response_type=code", "response_type=token"),
            ErrorCode::UnsupportedResponseType,
        ),
        (format!("{GOOD}&response_mode=fragment"), ErrorCode::InvalidRequest),
        (format!("{GOOD}&scope=a&scope=b"), ErrorCode::InvalidRequest),
        (format!("{GOOD}&resource=relative"), ErrorCode::InvalidTarget),
        (format!("{GOOD}&x={}", "x".repeat(16 << 10)), ErrorCode::InvalidRequest),
        (
            GOOD.replace("state=s", &format!("state={}", "s".repeat(2049))),
            ErrorCode::InvalidRequest,
        ),
    ] {
        assert_eq!(pushed(&form).unwrap_err().code(), code, "{form:.200}");
    }
}

proptest! {
    #[test]
    fn any_form_is_kept_or_refused(form in ".{0,300}") {
        if let Ok((pushed, _)) = pushed(&format!("{GOOD}&{form}")) {
            prop_assert!(pushed.params.len() <= MAX_LEN);
        }
        let _ = referred(&Params::parse(form.as_bytes()));
    }
}
