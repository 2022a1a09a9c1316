use super::*;
use crate::{
    redirect::RedirectUri,
    tests_support::{alice, public_client},
};

const ISSUER: &str = "https://idp.example.ts.net";
const AFTER: &str = "https://app.example/bye?x=1";

fn client() -> Client {
    Client {
        post_logout_redirect_uris: vec![
            RedirectUri::parse(AFTER).unwrap(),
            RedirectUri::parse("http://localhost/bye").unwrap(),
        ],
        ..public_client()
    }
}

fn hint(sub: &str, aud: &str) -> Hint {
    let claims = format!(r#"{{"iss":"{ISSUER}","sub":"{sub}","aud":"{aud}"}}"#);
    Hint::verified(Some(claims.as_bytes()), ISSUER)
}

fn ask(form: &str, hint: &Hint) -> Result<Logout, LogoutError> {
    let params = Params::parse(form.as_bytes());
    let named = client_id(&params, hint)?;
    let client = client();
    let found = named.as_ref().filter(|id| **id == client.id).map(|_| &client);
    read(&params, hint, named.as_ref(), found, &alice())
}

#[test]
fn a_registered_address_is_returned_to_with_state_behind_its_query() {
    let form = "post_logout_redirect_uri=https://app.example/bye?x%3D1&state=s%26t";
    for logout in [
        ask(form, &hint("userid:1", "c1")).unwrap(),
        ask(&format!("{form}&client_id=c1"), &Hint::Absent).unwrap(),
        ask(&format!("{form}&client_id=c1"), &hint("userid:1", "c1")).unwrap(),
    ] {
        let to = logout.destination(Some(&client()));
        assert_eq!(to.as_deref(), Some("https://app.example/bye?x=1&state=s%26t"));
        assert_eq!(
            logout.destination(Some(&public_client())),
            None,
            "it was unregistered meanwhile"
        );
        assert_eq!(logout.destination(None), None);
    }
    let plain = ask(
        "post_logout_redirect_uri=http://localhost/bye&client_id=c1",
        &Hint::Absent,
    )
    .unwrap();
    assert_eq!(
        plain.destination(Some(&client())).as_deref(),
        Some("http://localhost/bye")
    );
}

#[test]
fn an_address_is_matched_letter_for_letter() {
    for bad in [
        "https://app.example/bye",
        "https://app.example/bye?x=1&y=2",
        "https://evil.example/bye?x=1",
        "http://localhost:5000/bye",
        "nonsense",
    ] {
        let form: String = form_urlencoded::Serializer::new("client_id=c1&".to_owned())
            .append_pair("post_logout_redirect_uri", bad)
            .finish();
        assert_eq!(ask(&form, &Hint::Absent), Err(LogoutError::Redirect), "{bad}");
    }
}

#[test]
fn who_names_no_client_is_sent_nowhere() {
    let logout = ask(
        "post_logout_redirect_uri=https://app.example/bye?x%3D1&state=s",
        &Hint::Absent,
    )
    .unwrap();
    assert_eq!(logout.destination(Some(&client())), None);
    assert_eq!(ask("", &Hint::Absent).unwrap(), Logout::default());
}

#[test]
fn contradictions_and_foreign_hints_are_refused() {
    assert_eq!(
        ask("client_id=c2", &hint("userid:1", "c1")),
        Err(LogoutError::OtherClient)
    );
    assert_eq!(ask("client_id=c2", &Hint::Absent), Err(LogoutError::UnknownClient));
    assert!(matches!(ask("", &Hint::Foreign), Err(LogoutError::Request(_))));
    assert!(matches!(ask("", &hint("userid:2", "c1")), Err(LogoutError::Request(_))));
    let long = format!("state={}", "s".repeat(3000));
    for bad in [
        long.as_str(),
        "state=a%0Ab",
        "client_id=c1&client_id=c1",
        "id_token_hint=a&id_token_hint=a",
        "ui_locales=de&ui_locales=en",
    ] {
        assert!(matches!(ask(bad, &Hint::Absent), Err(LogoutError::Request(_))), "{bad}");
    }
}
