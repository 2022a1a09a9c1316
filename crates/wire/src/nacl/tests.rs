use proptest::prelude::*;

use super::*;

fn pair() -> (NodePrivate, NodePrivate) {
    (NodePrivate::from_random([3; 32]), NodePrivate::from_random([9; 32]))
}

#[test]
fn both_ends_share_one_box() {
    let (a, b) = pair();
    let mut sealed = Vec::new();
    NaclBox::for_node(&a, &b.public()).seal_into(&[7; NONCE_LEN], b"hello", &mut sealed);
    assert_eq!(sealed.len(), OVERHEAD + 5);
    assert_eq!(NaclBox::for_node(&b, &a.public()).open(&sealed).unwrap(), b"hello");
}

#[test]
fn another_key_does_not_open_it() {
    let (a, b) = pair();
    let stranger = NodePrivate::from_random([1; 32]);
    let mut sealed = Vec::new();
    NaclBox::for_node(&a, &b.public()).seal_into(&[7; NONCE_LEN], b"hello", &mut sealed);
    assert_eq!(NaclBox::for_node(&stranger, &a.public()).open(&sealed), Err(NotForUs));
}

#[test]
fn debug_shows_no_key() {
    let (a, b) = pair();
    assert_eq!(format!("{:?}", NaclBox::for_node(&a, &b.public())), "NaclBox(..)");
}

proptest! {
    #[test]
    fn damage_is_noticed(plain in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index, bit in 0u8..8) {
        let (a, b) = pair();
        let shared = NaclBox::for_node(&a, &b.public());
        let mut sealed = Vec::new();
        shared.seal_into(&[7; NONCE_LEN], &plain, &mut sealed);
        let at = at.index(sealed.len());
        prop_assert_eq!(shared.open(&sealed[..at]), Err(NotForUs));
        sealed[at] ^= 1 << bit;
        prop_assert_eq!(shared.open(&sealed), Err(NotForUs));
    }
}
