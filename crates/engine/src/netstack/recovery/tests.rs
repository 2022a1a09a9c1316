use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

const ADDRESSES: Addresses = Addresses::V4(Ipv4Addr::new(100, 64, 0, 2), Ipv4Addr::new(100, 64, 0, 1));
const ROUND_TRIP: Duration = Duration::from_millis(40);

/// A bare ACK of the peer, with SACK blocks.
fn ack(acknowledged: u32, window: u16, blocks: &[(u32, u32)]) -> Vec<u8> {
    let heard = Heard {
        next: 500,
        acknowledged,
        window,
    };
    let mut body = acknowledgment(heard, (1, 2)).to_vec();
    if !blocks.is_empty() {
        body.extend_from_slice(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for (start, end) in blocks {
            body.extend_from_slice(&start.to_be_bytes());
            body.extend_from_slice(&end.to_be_bytes());
        }
        body[12] = ((body.len() / 4) as u8) << 4;
    }
    build::ip(&ADDRESSES, IpProto::TCP, &body)
}

fn feed(recovery: &mut Recovery, now: Instant, bytes: &[u8]) -> bool {
    let packet = Packet::parse(bytes).unwrap();
    recovery.handle_segment(now, &packet, bytes)
}

fn started(now: Instant) -> Recovery {
    let mut recovery = Recovery::default();
    recovery.set_round_trip(ROUND_TRIP);
    assert!(!feed(&mut recovery, now, &ack(1000, 100, &[])));
    recovery.handle_egress(now, 20_000);
    recovery
}

#[test]
fn three_segments_behind_a_hole_mean_loss_whatever_the_window_says() {
    let now = Instant::now();
    let mut recovery = started(now);
    assert!(!feed(&mut recovery, now, &ack(1000, 101, &[(2240, 3480)])));
    assert!(!feed(&mut recovery, now, &ack(1000, 102, &[(2240, 4720)])));
    assert!(feed(&mut recovery, now, &ack(1000, 103, &[(2240, 5960)])));
    assert!(!feed(&mut recovery, now, &ack(1000, 104, &[(2240, 7200)])), "once");
    let later = now + ROUND_TRIP * 2;
    assert!(
        feed(&mut recovery, later, &ack(1000, 105, &[(2240, 8440)])),
        "the repetition was lost too"
    );
}

#[test]
fn a_hole_is_given_a_quarter_of_a_round_trip() {
    let now = Instant::now();
    let mut recovery = started(now);
    assert!(!feed(&mut recovery, now, &ack(1000, 101, &[(2240, 3480)])));
    assert_eq!(recovery.poll_timeout(), Some(now + ROUND_TRIP / 4));
    assert!(recovery.handle_timeout(now + ROUND_TRIP / 4));
    // In another life the missing segment comes in time.
    let mut recovery = started(now);
    feed(&mut recovery, now, &ack(1000, 101, &[(2240, 3480)]));
    assert!(!feed(&mut recovery, now, &ack(3480, 101, &[])));
    assert!(!recovery.handle_timeout(now + ROUND_TRIP / 4));
}

#[test]
fn during_recovery_the_next_hole_is_filled_at_once() {
    let now = Instant::now();
    let mut recovery = started(now);
    assert!(feed(
        &mut recovery,
        now,
        &ack(1000, 101, &[(2240, 9000), (9500, 12_000)])
    ));
    assert!(feed(
        &mut recovery,
        now + ROUND_TRIP,
        &ack(9000, 101, &[(9500, 12_000)])
    ));
    assert!(!feed(&mut recovery, now + ROUND_TRIP * 2, &ack(12_000, 101, &[])));
    assert_eq!(recovery.sacked, None);
}

#[test]
fn what_smoltcp_counts_itself_is_left_to_it() {
    let now = Instant::now();
    let mut recovery = started(now);
    for _ in 0..5 {
        assert!(!feed(&mut recovery, now, &ack(1000, 100, &[])));
    }
    assert!(recovery.repeated.is_some());
}

#[test]
fn silence_is_probed_three_times_and_ends_with_progress() {
    let now = Instant::now();
    let mut recovery = started(now);
    let mut at = now;
    for _ in 0..MAX_PROBES {
        at = recovery.poll_timeout().unwrap();
        assert!(recovery.handle_timeout(at));
    }
    assert_eq!(recovery.poll_timeout(), None);
    feed(&mut recovery, at, &ack(2000, 100, &[]));
    assert_eq!(recovery.poll_timeout(), Some(at + ROUND_TRIP * 2));
    recovery.handle_egress(at, 0);
    assert_eq!(recovery.poll_timeout(), None);
}

#[test]
fn a_single_segment_is_given_the_time_of_a_delayed_ack() {
    let now = Instant::now();
    let mut recovery = started(now);
    recovery.handle_egress(now, 100);
    assert_eq!(recovery.poll_timeout(), Some(now + DELAYED_ACK));
}

#[test]
fn a_closed_window_is_not_loss() {
    let now = Instant::now();
    let mut recovery = started(now);
    feed(&mut recovery, now, &ack(2000, 0, &[]));
    recovery.handle_egress(now, 20_000);
    assert_eq!(recovery.poll_timeout(), None);
}

proptest! {
    #[test]
    fn no_options_panic(options in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = sack::highest_end(&options, None);
    }
}
