use super::*;

#[tokio::test]
async fn age_counts_from_the_first_silence_and_ends_with_it() {
    let live = LiveNetmap::new();
    assert_eq!(live.age(), Duration::ZERO);
    live.handle_offline();
    std::thread::sleep(Duration::from_millis(20));
    live.handle_offline();
    assert!(
        live.age() >= Duration::from_millis(20),
        "a second failure does not make it younger"
    );
    live.handle_online();
    assert_eq!(live.age(), Duration::ZERO);
    let mut changes = live.subscribe();
    live.announce();
    changes.changed().await.unwrap();
    assert!(live.current().is_none());
}
