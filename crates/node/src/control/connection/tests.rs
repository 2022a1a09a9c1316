use time::macros::datetime;

use super::*;

#[test]
fn retry_after_takes_seconds_and_dates() {
    let now = datetime!(2026-11-24 09:00 UTC);
    let read = |value: &'static str| {
        let headers = HeaderMap::from_iter([(header::RETRY_AFTER, value.parse().unwrap())]);
        retry_after(&headers, now)
    };
    assert_eq!(read("20"), Some(Duration::from_secs(20)));
    assert_eq!(read("Tue, 24 Nov 2026 09:00:30 GMT"), Some(Duration::from_secs(30)));
    assert_eq!(read("Tue, 24 Nov 2026 08:00:00 GMT"), Some(Duration::ZERO));
    assert_eq!(read("soon"), None);
    assert_eq!(retry_after(&HeaderMap::new(), now), None);
}
