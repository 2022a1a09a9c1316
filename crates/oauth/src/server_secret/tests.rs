use super::*;
use crate::tests_support::Counting;

fn secret() -> ServerSecret {
    ServerSecret::draw(&mut Counting::default())
}

#[test]
fn it_survives_being_stored_and_says_nothing_in_a_log() {
    let text = secret().to_text();
    assert_eq!(ServerSecret::from_text(&text).unwrap().0, secret().0);
    for other in ["", "AAAA", &text[1..], &format!("{}A", *text), "é"] {
        assert!(ServerSecret::from_text(other).is_none(), "{other}");
    }
    assert_eq!(format!("{:?}", secret()), "ServerSecret(…)");
}

/// RFC 4231 has no key of 32 bytes; this value is of Python's `hmac`.
#[test]
fn what_is_derived_is_the_hmac_of_label_and_subject() {
    let derived = secret().derive("label", b"about");
    let expected = "9Gc2znPKP2QnKsw5vPNX4E0QkZfiujsAhqy8JRzERhU";
    assert_eq!(URL_SAFE_NO_PAD.encode(*derived), expected);
}

#[test]
fn each_purpose_code_and_server_has_values_of_its_own() {
    let (one, other) = (
        CodeId::draw("nAlice", &mut Counting::default()),
        CodeId::draw("nBob", &mut Counting(9)),
    );
    assert_eq!(secret().handle(&one), secret().handle(&one));
    assert_ne!(secret().handle(&one), secret().handle(&other));
    assert_ne!(secret().handle(&one), ServerSecret::draw(&mut Counting(1)).handle(&one));
    assert_ne!(secret().ticket_key()[..16], secret().handle(&one));
    assert_ne!(secret().ticket_key(), secret().0);
}
