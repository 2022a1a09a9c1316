//! What a change of the issuer says before it is made.

use super::*;
use crate::args::Location;

#[test]
fn every_consequence_is_named() {
    let to = Issuer::parse("https://idp-1.tail.example").unwrap();
    let from = "https://idp.tail.example".to_owned();
    let text = describe(
        &Breakage {
            from,
            clients: 2,
            new_root: true,
        },
        &to,
    );
    assert!(text.starts_with("Changing the issuer from https://idp.tail.example to https://idp-1.tail.example"));
    assert!(text.contains("2 registered clients must register again"), "{text}");
    assert!(text.contains("every client must be told to trust it"), "{text}");
}

#[tokio::test]
async fn nothing_is_made_where_no_server_was() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = IssuerChange {
        issuer: "https://idp.tail.example".to_owned(),
        yes: true,
        location: Location::default(),
    };
    assert_eq!(change(&args, folder.path()).await, Exit::NotRunning);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    args.issuer = "https://idp.tail.example/".to_owned();
    assert_eq!(change(&args, folder.path()).await, Exit::Usage);
}
