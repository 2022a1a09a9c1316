use super::*;

fn target() -> Target {
    Target::new(&"https://hs.test".parse().unwrap(), false).unwrap()
}

#[test]
fn bytes_behind_the_upgrade_are_kept_apart() {
    let head =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: Tailscale-Control-Protocol\r\nConnection: upgrade\r\n\r\n";
    let mut received = head.to_vec();
    received.extend_from_slice(b"\x02\0\x30");
    assert_eq!(switched(&target(), &received).unwrap(), Some(head.len()));
    for cut in 0..head.len() {
        assert_eq!(switched(&target(), &head[..cut]).unwrap(), None);
    }
}

#[test]
fn any_other_answer_names_its_status() {
    let redirect = b"HTTP/1.1 301 Moved Permanently\r\nLocation: https://hs.test/\r\n\r\n";
    assert!(switched(&target(), redirect).unwrap_err().to_string().contains("301"));
    let wrong = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    assert!(switched(&target(), wrong).is_err());
    assert!(switched(&target(), b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
}

#[test]
fn families_take_turns() {
    let parse = |text: &str| {
        text.split(' ')
            .map(|a| a.parse::<SocketAddr>().unwrap())
            .collect::<Vec<_>>()
    };
    let found = parse("[::1]:1 [::2]:1 [::3]:1 1.1.1.1:1 2.2.2.2:1");
    assert_eq!(
        alternating(found.into_iter()),
        parse("[::1]:1 1.1.1.1:1 [::2]:1 2.2.2.2:1 [::3]:1")
    );
    let found = parse("1.1.1.1:1 [::1]:1");
    assert_eq!(alternating(found.into_iter()), parse("1.1.1.1:1 [::1]:1"));
}
