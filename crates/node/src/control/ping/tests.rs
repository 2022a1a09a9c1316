use super::*;

fn text(request: &str) -> String {
    String::from_utf8(c2n(request.as_bytes())).unwrap()
}

#[test]
fn echo_gives_back_the_body() {
    let answer = text("POST /echo?x=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(answer, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
}

#[test]
fn everything_else_is_refused() {
    for request in ["GET /debug/prefs HTTP/1.1\r\n\r\n", "GET /echo", "\0\0", ""] {
        assert!(text(request).starts_with("HTTP/1.1 400 "), "{request:?}");
    }
}
