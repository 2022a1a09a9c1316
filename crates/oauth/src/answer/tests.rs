use super::*;
use crate::tests_support::Counting;

fn path(mode: ResponseMode) -> ReturnPath<'static> {
    ReturnPath {
        redirect_uri: "https://app.example/cb?tenant=1",
        mode,
        state: Some("a&b"),
        issuer: "https://idp",
    }
}

fn read(mode: &str, redirect_uri: &str) -> Result<ResponseMode, OAuthError> {
    ResponseMode::read(&Params::parse(format!("response_mode={mode}").as_bytes()), redirect_uri)
}

#[test]
fn the_query_keeps_what_was_registered_and_escapes_the_rest() {
    let error = OAuthError::new(ErrorCode::AccessDenied, "no");
    let answer = path(ResponseMode::Query).refuse(error.clone());
    assert_eq!(
        answer.location,
        "https://app.example/cb?tenant=1&error=access_denied&error_description=no&iss=https%3A%2F%2Fidp&state=a%26b"
    );
    assert_eq!((answer.form, answer.error), (None, Some(error)));
}

#[test]
fn a_form_carries_success_and_error_alike_and_leaves_the_address_alone() {
    let code = Secret::draw(&mut Counting::default());
    let accepted = path(ResponseMode::FormPost).accept(&code);
    let refused = path(ResponseMode::FormPost).refuse(OAuthError::new(ErrorCode::AccessDenied, "no"));
    for answer in [&accepted, &refused] {
        assert_eq!(answer.location, "https://app.example/cb?tenant=1");
        let form = answer.form.as_ref().unwrap();
        assert!(form.contains(&("iss", "https://idp".into())) && form.contains(&("state", "a&b".into())));
    }
    assert!(accepted.form.unwrap().contains(&("code", code.reveal().to_owned())));
    assert!(refused.form.unwrap().contains(&("error", "access_denied".into())));
}

#[test]
fn modes_that_do_not_exist_or_cannot_work_are_named() {
    assert_eq!(read("", "https://a"), Ok(ResponseMode::Query));
    assert_eq!(read("query", "cursor://a"), Ok(ResponseMode::Query));
    assert_eq!(read("form_post", "http://localhost/cb"), Ok(ResponseMode::FormPost));
    for (mode, redirect_uri) in [("fragment", "https://a"), ("form_post", "cursor://a/cb")] {
        let error = read(mode, redirect_uri).unwrap_err();
        assert!(error.description().contains("response_mode"), "{error}");
    }
}
