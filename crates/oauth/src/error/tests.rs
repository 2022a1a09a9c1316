use super::*;

#[test]
fn a_description_keeps_to_the_characters_of_rfc_6749() {
    let error = OAuthError::new(ErrorCode::InvalidRequest, "say \"x\\y\"\r\n<ü>");
    assert_eq!(error.description(), "say 'x'y'??<?>");
    assert_eq!(error.to_string(), "invalid_request: say 'x'y'??<?>");
}

#[test]
fn the_serialized_code_is_the_code() {
    for code in [
        ErrorCode::InvalidRedirectUri,
        ErrorCode::AccessDenied,
        ErrorCode::ServerError,
    ] {
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
    }
}
