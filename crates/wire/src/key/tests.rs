use super::*;

#[derive(Serialize, Deserialize)]
struct Holder {
    #[serde(with = "optional", default)]
    key: Option<NodePublic>,
}

#[test]
fn text_forms_round_trip_and_accept_upper_case() {
    let key = NodePrivate::from_random([7; 32]);
    let text = key.public().to_string();
    assert_eq!(text.parse(), Ok(key.public()));
    let upper = format!("nodekey:{}", text["nodekey:".len()..].to_uppercase());
    assert_eq!(upper.parse(), Ok(key.public()));
    let stored = NodePrivate::from_text(&key.to_text()).unwrap();
    assert_eq!(stored.public(), key.public());
}

#[test]
fn another_kind_of_key_is_refused_by_name() {
    let machine = MachinePrivate::from_random([1; 32]).public().to_string();
    assert_eq!(
        machine.parse::<NodePublic>(),
        Err(ParseKeyError::Prefix { expected: "nodekey:" })
    );
    assert_eq!(
        "nodekey:12".parse::<NodePublic>(),
        Err(ParseKeyError::Digits { prefix: "nodekey:" })
    );
}

#[test]
fn zero_null_empty_and_absent_keys_are_none() {
    let zero = format!(r#"{{"key":"nodekey:{}"}}"#, "0".repeat(64));
    for json in ["{}", r#"{"key":null}"#, r#"{"key":""}"#, &zero] {
        assert!(serde_json::from_str::<Holder>(json).unwrap().key.is_none(), "{json}");
    }
}

#[test]
fn debug_of_a_private_key_shows_no_secret() {
    let key = NodePrivate::from_random([9; 32]);
    let secret = key.to_text();
    assert!(!format!("{key:?}").contains(&secret[8..16]));
}
