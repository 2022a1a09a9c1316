use countersign_server::ClientLine;
use time::macros::datetime;

use super::*;

#[test]
fn a_client_is_listed_with_whose_it_is_and_who_may_use_it() {
    let client = ClientLine {
        id: "c1".into(),
        name: Some("Claude\u{7}".into()),
        user: "alice".into(),
        node: "laptop.example.ts.net".into(),
        registered: datetime!(2026-11-24 12:00 UTC),
        redirect_uris: vec!["http://localhost/callback".into()],
        published: Some("root on the server".into()),
        unused: true,
    };
    let list = ClientList {
        clients: vec![
            client.clone(),
            ClientLine {
                id: "c2".into(),
                name: None,
                published: None,
                unused: false,
                redirect_uris: Vec::new(),
                ..client
            },
        ],
        more: true,
    };
    let expected = "\
c1  Claude?
    registered by alice on laptop.example.ts.net, 2026-11-24, never used; published by root on the server
    http://localhost/callback
c2  unnamed
    registered by alice on laptop.example.ts.net, 2026-11-24; its owner's alone
There are more; only the first are listed.
";
    assert_eq!(render(&list), expected);
    let none = ClientList {
        clients: Vec::new(),
        more: false,
    };
    assert_eq!(render(&none), "No client is registered.\n");
}
