use proptest::prelude::*;

use super::*;

fn kind(text: &str) -> Kind {
    RedirectUri::parse(text).unwrap().kind()
}

fn refused(text: &str) -> RedirectError {
    RedirectUri::parse(text).unwrap_err()
}

#[test]
fn what_real_clients_register_is_accepted() {
    assert_eq!(kind("http://localhost/callback"), Kind::Loopback);
    assert_eq!(kind("http://127.0.0.1/"), Kind::Loopback);
    assert_eq!(kind("http://127.0.0.1:33418"), Kind::Loopback);
    assert_eq!(kind("http://[::1]:8080/cb?x=1"), Kind::Loopback);
    assert_eq!(kind("https://vscode.dev/redirect"), Kind::Web);
    assert_eq!(kind("https://app.example:8443/oauth/cb?tenant=1"), Kind::Web);
    assert_eq!(kind("cursor://anysphere.cursor-mcp/oauth/callback"), Kind::PrivateUse);
    assert_eq!(kind("com.example.app:/oauth2redirect"), Kind::PrivateUse);
}

#[test]
fn a_program_on_this_computer_may_also_wait_behind_https() {
    let local = |text| RedirectUri::parse(text).unwrap().is_on_this_computer();
    for text in [
        "http://localhost/cb",
        "cursor://x/cb",
        "https://localhost:8443/cb",
        "https://app.localhost./cb",
        "https://127.9.9.9/cb",
        "https://[::1]/cb",
        "https://[::ffff:7f00:1]/cb",
        "https://0.0.0.0/cb",
    ] {
        assert!(local(text), "{text}");
    }
    for text in [
        "https://app.example/cb",
        "https://localhost.example/cb",
        "https://100.64.0.1/cb",
    ] {
        assert!(!local(text), "{text}");
    }
}

#[test]
fn each_rule_has_its_refusal() {
    assert_eq!(refused("https://a.example/#x"), RedirectError::Fragment);
    assert_eq!(refused("https://*.example/cb"), RedirectError::Wildcard);
    assert_eq!(refused("https://user@a.example/cb"), RedirectError::UserInfo);
    assert_eq!(refused("cursor://user:pw@x/cb"), RedirectError::UserInfo);
    assert_eq!(refused("http://a.example/cb"), RedirectError::InsecureHttp);
    assert_eq!(refused("http://localhost.evil.example/cb"), RedirectError::InsecureHttp);
    assert_eq!(refused("http://127.0.0.2/cb"), RedirectError::InsecureHttp);
    assert_eq!(refused("/relative"), RedirectError::Malformed);
    assert_eq!(refused("https:///cb"), RedirectError::Malformed);
    assert_eq!(refused("https:a.example/cb"), RedirectError::Malformed);
    assert_eq!(refused("http://0x7f.1/cb"), RedirectError::Malformed);
    assert_eq!(refused("https://a.example:0/cb"), RedirectError::Malformed);
    assert_eq!(refused("https://a.example:http/cb"), RedirectError::Malformed);
    assert_eq!(refused("https://a.example\\@b.example/"), RedirectError::Character);
    assert_eq!(refused("https://a.example/c b"), RedirectError::Character);
    assert_eq!(refused("https://ü.example/"), RedirectError::Character);
    assert_eq!(refused("myapp://"), RedirectError::Malformed);
    assert_eq!(
        refused(&format!("https://a.example/{}", "x".repeat(2048))),
        RedirectError::TooLong
    );
}

#[test]
fn schemes_that_browsers_act_on_are_refused() {
    for text in [
        "javascript:alert(1)",
        "JavaScript:alert(1)",
        "data:text/html,x",
        "file:///etc/passwd",
        "blob:https://a/b",
        "vbscript:x",
        "about:blank",
        "chrome://settings",
        "chrome-extension://id/x",
        "ws://a/",
        "wss://a/",
        "ftp://a/b",
        "mailto:a",
        "view-source:https://a",
        "intent://x",
        "urn:ietf:wg:oauth:2.0:oob",
    ] {
        assert!(matches!(refused(text), RedirectError::Scheme(_)), "{text}");
    }
}

#[test]
fn loopback_matches_on_any_port_with_host_path_and_query_exact() {
    let portless = RedirectUri::parse("http://localhost/callback").unwrap();
    assert!(portless.matches("http://localhost/callback"));
    assert!(portless.matches("http://localhost:3118/callback"));
    assert!(!portless.matches("http://127.0.0.1:3118/callback"));
    assert!(!portless.matches("http://localhost:3118/callback2"));
    assert!(!portless.matches("http://localhost:3118/callback?x=1"));
    assert!(!portless.matches("http://localhost:3118/callback#x"));
    assert!(!portless.matches("http://localhost:99999/callback"));
    assert!(!portless.matches("http://localhost:+3118/callback"));
    assert!(!portless.matches("http://localhost:@evil.example/callback"));
    assert!(!portless.matches("https://localhost:3118/callback"));
    let v6 = RedirectUri::parse("http://[::1]:1/cb?a=b").unwrap();
    assert!(v6.matches("http://[::1]:65535/cb?a=b"));
}

#[test]
fn everything_else_matches_as_text_only() {
    let web = RedirectUri::parse("https://app.example/cb").unwrap();
    assert!(web.matches("https://app.example/cb"));
    for other in [
        "https://app.example:443/cb",
        "https://APP.example/cb",
        "https://app.example/cb/",
        "https://app.example/cb?",
    ] {
        assert!(!web.matches(other), "{other}");
    }
    let app = RedirectUri::parse("cursor://a/cb").unwrap();
    assert!(!app.matches("cursor://a:1/cb"));
}

proptest! {
    #[test]
    fn parsing_is_total_and_what_it_accepts_survives_storage(text in "\\PC{0,60}") {
        if let Ok(uri) = RedirectUri::parse(&text) {
            let stored = serde_json::to_string(&uri).unwrap();
            prop_assert_eq!(serde_json::from_str::<RedirectUri>(&stored).unwrap(), uri);
        }
    }

    #[test]
    fn near_uris_never_panic(text in "(https?|cursor|data):/{0,3}[a-z0-9.\\[\\]:@*#%?/]{0,30}", other in "http://(localhost|\\[::1\\])[:/a-z0-9?@]{0,12}") {
        if let Ok(uri) = RedirectUri::parse(&text) {
            prop_assert!(uri.matches(&text));
            let _ = uri.matches(&other);
        }
    }
}
