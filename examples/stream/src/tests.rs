//! The parts of the example that need no tailnet.

use super::*;

#[tokio::test]
async fn a_stream_is_as_long_as_asked() {
    for length in [0, 1, 256 << 10, (256 << 10) + 1, 3_000_000] {
        let collected = Zeros::new(length).collect().await.unwrap().to_bytes();
        assert_eq!(collected.len() as u64, length);
    }
}

#[test]
fn the_length_is_read_from_the_query() {
    assert_eq!(wanted("n=5"), Some(5));
    assert_eq!(wanted("x=1&n=7"), Some(7));
    assert_eq!(wanted("n=-1"), None);
    assert_eq!(wanted("m=1"), None);
}
