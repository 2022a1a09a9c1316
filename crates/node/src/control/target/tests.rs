use super::*;

fn target(url: &str) -> Target {
    Target::new(&url.parse().unwrap(), true).unwrap()
}

fn ways(url: &str) -> Vec<(bool, u16)> {
    target(url).ways().iter().map(|way| (way.tls, way.port)).collect()
}

#[test]
fn an_explicit_port_leaves_one_way() {
    assert_eq!(ways("https://hs.test:8443"), [(true, 8443)]);
    assert_eq!(ways("http://127.0.0.1:8080"), [(false, 8080)]);
    assert_eq!(ways("http://localhost"), [(false, 80)]);
}

#[test]
fn defaults_race_port_80_and_443() {
    assert_eq!(ways("https://hs.test"), [(false, 80), (true, 443)]);
    assert_eq!(ways("http://hs.test"), [(false, 80), (true, 443)]);
    assert_eq!(ways("http://[fd7a::1]"), [(false, 80)]);
}

#[test]
fn the_key_comes_over_tls_unless_http_was_asked_for() {
    assert!(target("https://hs.test").key_way().tls);
    assert_eq!(target("https://hs.test").key_way().port, 443);
    assert_eq!(
        target("http://hs.test:8080").key_way(),
        Way {
            tls: false,
            port: 8080,
            delay: Duration::ZERO
        }
    );
}

#[test]
fn names_for_headers_keep_brackets_and_port() {
    let target = target("https://[::1]:8443");
    assert_eq!((target.host.as_str(), target.authority.as_str()), ("::1", "[::1]:8443"));
}

#[test]
fn what_cannot_be_a_control_server_is_refused() {
    for url in [
        "ftp://x",
        "https://x/path",
        "https://x/?q",
        "https://u:pw@x",
        "http://x",
    ] {
        let error = Target::new(&url.parse().unwrap(), false).unwrap_err();
        assert!(!error.to_string().contains("pw"), "{error}");
    }
}
