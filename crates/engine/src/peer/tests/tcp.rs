use std::task::Poll;

use super::pair::*;
use crate::peer::*;

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

#[test]
fn a_connection_is_accepted_and_carries_both_directions() {
    for version in [4, 6] {
        let mut pair = Pair::new(Link::PERFECT);
        let (dialed, accepted) = pair.connect(version);
        let data = pattern(3 << 20);
        assert_eq!(pair.transfer(0, dialed, accepted, &data), data);
        assert_eq!(pair.transfer(1, accepted, dialed, &data), data);
        for (end, conn) in [(0, dialed), (1, accepted)] {
            pair.ends[end].peer.release(conn);
        }
        pair.run(Duration::from_secs(15));
        for end in &pair.ends {
            assert_eq!(end.peer.connections(), 0);
            assert_eq!(end.memory.used(), 0);
        }
    }
}

#[test]
fn a_closed_port_refuses() {
    let mut pair = Pair::new(Link::PERFECT);
    let remote = SocketAddr::new(ip(1, 4), 8443);
    let conn = pair.dial(remote).unwrap();
    pair.until(|pair| pair.poll_connected(0, conn).is_ready());
    assert_eq!(pair.poll_connected(0, conn), Poll::Ready(Err(ConnError::Refused)));
    assert_eq!(pair.ends[1].peer.counters().tcp.unlistened, 1);
}

#[test]
fn a_lossy_reordering_repeating_link_delivers_every_byte_in_order() {
    let link = Link {
        loss: 0.02,
        duplicate: 0.01,
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(3),
    };
    let mut pair = Pair::new(link);
    let (dialed, accepted) = pair.connect(4);
    let data = pattern(1 << 20);
    assert!(pair.transfer(1, accepted, dialed, &data) == data);
    assert!(pair.transfer(0, dialed, accepted, &data) == data);
}

#[test]
fn one_half_may_be_closed_while_the_other_goes_on() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.transfer(0, dialed, accepted, b"question"), b"question");
    assert_eq!(pair.write(0, dialed, b"more"), Poll::Ready(Err(ConnError::Closed)));
    pair.run(Duration::from_secs(30));
    let answer = pattern(100_000);
    assert!(pair.transfer(1, accepted, dialed, &answer) == answer);
}

#[test]
fn data_written_before_release_still_arrives() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.write(1, accepted, b"last words"), Poll::Ready(Ok(10)));
    pair.ends[1].peer.release(accepted);
    let mut buffer = [0; 64];
    pair.until(|pair| pair.read(0, dialed, &mut buffer) == Poll::Ready(Ok(10)));
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Ok(0)));
    pair.ends[0].peer.release(dialed);
    pair.run(Duration::from_secs(15));
    assert_eq!(pair.ends[1].peer.connections(), 0);
}

#[test]
fn release_with_unread_data_resets() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.write(0, dialed, b"never read"), Poll::Ready(Ok(10)));
    pair.run(Duration::from_millis(10));
    pair.ends[1].peer.release(accepted);
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Err(ConnError::Reset)));
}

#[test]
fn an_abort_resets_both_ends() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(6);
    pair.ends[0].peer.abort(dialed);
    assert_eq!(pair.read(0, dialed, &mut [0; 8]), Poll::Ready(Err(ConnError::Closed)));
    pair.until(|pair| pair.read(1, accepted, &mut [0; 8]) == Poll::Ready(Err(ConnError::Reset)));
    pair.ends[0].peer.release(dialed);
    pair.ends[1].peer.release(accepted);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.ends[0].memory.used() + pair.ends[1].memory.used(), 0);
}

#[test]
fn many_connections_at_once_keep_their_bytes_apart() {
    let mut pair = Pair::new(Link::PERFECT);
    let conns: Vec<_> = (0..100).map(|_| pair.connect(4)).collect();
    for (i, (dialed, _)) in conns.iter().enumerate() {
        let data = vec![i as u8; 1000];
        assert_eq!(pair.write(0, *dialed, &data), Poll::Ready(Ok(1000)));
    }
    pair.run(Duration::from_secs(1));
    for (i, (_, accepted)) in conns.iter().enumerate() {
        let mut buffer = [0; 2000];
        assert_eq!(pair.read(1, *accepted, &mut buffer), Poll::Ready(Ok(1000)));
        assert!(buffer[..1000].iter().all(|byte| *byte == i as u8));
    }
}

#[test]
fn a_lost_final_ack_is_repeated_out_of_time_wait() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    pair.ends[0].peer.shutdown(dialed).unwrap();
    pair.until(|pair| pair.read(1, accepted, &mut [0; 8]) == Poll::Ready(Ok(0)));
    pair.ends[1].peer.release(accepted);
    // The FIN of end 1 arrives, the ACK for it does not.
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Ok(0)));
    pair.drop_everything_in_flight();
    assert_eq!(pair.ends[1].peer.connections(), 1);
    pair.run(Duration::from_secs(3));
    assert_eq!(pair.ends[1].peer.connections(), 0, "the repeated FIN was acknowledged");
}

#[test]
fn a_lost_answer_costs_a_quarter_of_a_second_not_a_whole_one() {
    let link = Link {
        delay: Duration::from_millis(10),
        ..Link::PERFECT
    };
    let mut pair = Pair::new(link);
    let (dialed, accepted) = pair.connect(4);
    assert_eq!(pair.write(1, accepted, b"answer"), Poll::Ready(Ok(6)));
    pair.drop_everything_in_flight();
    let lost = pair.now;
    pair.until(|pair| pair.read(0, dialed, &mut [0; 8]) == Poll::Ready(Ok(6)));
    assert!(pair.now - lost < Duration::from_millis(250), "{:?}", pair.now - lost);
    assert_eq!(pair.ends[1].peer.counters().tcp.repeated, 1);
}

#[test]
fn bulk_data_survives_a_bad_link_without_standing_still() {
    let link = Link {
        loss: 0.01,
        delay: Duration::from_millis(5),
        ..Link::PERFECT
    };
    let mut pair = Pair::new(link);
    let (dialed, accepted) = pair.connect(6);
    let data = pattern(2 << 20);
    let start = pair.now;
    assert!(pair.transfer(1, accepted, dialed, &data) == data);
    let took = pair.now - start;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[test]
fn an_unanswered_dial_times_out() {
    let mut pair = Pair::new(Link::PERFECT);
    pair.connect(4);
    pair.link.loss = 1.0;
    let conn = pair.dial(SocketAddr::new(ip(1, 4), PORT)).unwrap();
    pair.until(|pair| pair.poll_connected(0, conn).is_ready());
    assert_eq!(pair.poll_connected(0, conn), Poll::Ready(Err(ConnError::TimedOut)));
}

#[test]
fn a_peer_that_cannot_be_reached_is_given_up_and_forgotten() {
    let mut pair = Pair::new(Link {
        loss: 1.0,
        ..Link::PERFECT
    });
    let conn = pair.dial(SocketAddr::new(ip(1, 4), PORT)).unwrap();
    pair.until(|pair| pair.poll_connected(0, conn).is_ready());
    assert_eq!(pair.poll_connected(0, conn), Poll::Ready(Err(ConnError::TimedOut)));
    pair.ends[0].peer.release(conn);
    pair.turn();
    assert_eq!(pair.ends[0].peer.connections(), 0);
    assert!(
        !pair.ends[0].peer.wants_transmit(),
        "no reset waits for a session that never comes"
    );
}

#[test]
fn unacknowledged_data_is_given_up_after_a_while() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, _) = pair.connect(4);
    pair.run(Duration::from_secs(600));
    pair.link.loss = 1.0;
    assert_eq!(pair.write(0, dialed, b"anyone?"), Poll::Ready(Ok(7)));
    pair.run(Duration::from_secs(80));
    assert!(pair.read(0, dialed, &mut [0; 8]).is_pending());
    pair.run(Duration::from_secs(20));
    assert_eq!(pair.read(0, dialed, &mut [0; 8]), Poll::Ready(Err(ConnError::TimedOut)));
}

#[test]
fn buffered_data_waits_for_a_slow_reader_and_no_longer() {
    let mut pair = Pair::new(Link::PERFECT);
    let (dialed, accepted) = pair.connect(4);
    let data = pattern(2 << 20);
    let mut sent = 0;
    while let Poll::Ready(Ok(n)) = pair.write(0, dialed, &data[sent..]) {
        sent += n;
        pair.run(Duration::from_millis(200));
    }
    assert!(sent <= 512 << 10, "one send and one receive buffer hold it all");
    let mut received = Vec::new();
    let mut buffer = [0; 5000];
    while received.len() < sent {
        if let Poll::Ready(n) = pair.read(1, accepted, &mut buffer) {
            received.extend_from_slice(&buffer[..n.unwrap()]);
        }
        pair.run(Duration::from_millis(5));
    }
    assert!(received == data[..sent]);
}
