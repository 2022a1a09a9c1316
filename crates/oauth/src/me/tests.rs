use super::*;

fn read(form: &str) -> Result<Action, OAuthError> {
    Action::read(&Params::parse(form.as_bytes()))
}

#[test]
fn a_name_stays_behind_its_owner() {
    let name = Name::of(b"user:1\0n1\0x", b"user:1\0").unwrap();
    assert_eq!(Name::parse(&name.to_text()), Some(name.clone()));
    assert_eq!(
        name.id(b"user:2\0"),
        b"user:2\0n1\0x",
        "it cannot bring its owner along"
    );
    assert_eq!(Name::of(b"user:11\0n1\0x", b"user:1\0"), None);
    assert_eq!(Name::parse("not base64!"), None);
}

#[test]
fn each_kind_is_read_and_anything_else_refused() {
    let name = Name(b"n1\0x".to_vec());
    let text = name.to_text();
    assert_eq!(
        read(&format!("end=session&name={text}")).unwrap(),
        Action::Session(name.clone())
    );
    assert_eq!(
        read(&format!("end=consent&name={text}")).unwrap(),
        Action::Consent(name.clone())
    );
    assert_eq!(read(&format!("end=grant&name={text}")).unwrap(), Action::Grant(name));
    assert_eq!(
        read("end=client&name=c1").unwrap(),
        Action::Client(ClientId::from_request("c1"))
    );
    assert_eq!(read("end=everything").unwrap(), Action::Everything);
    for bad in [
        "",
        "end=all",
        "end=session",
        "end=session&name=*",
        "end=client",
        "end=grant&end=grant",
    ] {
        assert_eq!(read(bad).unwrap_err().code(), ErrorCode::InvalidRequest, "{bad}");
    }
}
