use super::*;

fn change(key: &str, value: Option<&str>) -> Change {
    (key.into(), value.map(Into::into))
}

#[test]
fn a_later_change_replaces_an_earlier_one_and_its_bytes() {
    let mut layer = Layer::default();
    assert!(layer.is_empty());
    layer.put(vec![change("a", Some("12345")), change("b", Some("1"))]);
    let before = layer.bytes();
    layer.put(vec![change("a", Some("1"))]);
    assert_eq!(layer.bytes(), before - 4);
    layer.put(vec![change("a", None)]);
    assert_eq!(layer.bytes(), before - 5);
    assert_eq!(layer.get(b"a"), Some(None));
    assert_eq!(layer.get(b"b"), Some(Some(b"1".as_slice())));
    assert_eq!(layer.get(b"c"), None);
}

#[test]
fn merged_sources_are_in_order_and_the_first_counts() {
    let over = [change("b", Some("new")), change("c", None), change("e", Some("5"))];
    let under = ["a", "b", "c", "d"].map(|key| Ok(change(key, Some("old"))));
    let merged = Merged::new(over.clone().into_iter(), under.into_iter());
    let merged: Vec<_> = merged.map(Result::unwrap).collect();
    let expected = [
        change("a", Some("old")),
        over[0].clone(),
        over[1].clone(),
        change("d", Some("old")),
        over[2].clone(),
    ];
    assert_eq!(merged, expected);
}

#[test]
fn an_error_below_is_not_hidden() {
    let under = [Err(StoreError::Stopped)];
    let mut merged = Merged::new([change("z", None)].into_iter(), under.into_iter());
    assert!(merged.next().unwrap().is_err());
}
