use proptest::prelude::*;

use super::*;

const TX: TxId = TxId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);

#[test]
fn a_request_is_what_the_server_asks_for() {
    let request = request(TX);
    assert!(looks_like_stun(&request));
    assert_eq!(parse_request(&request), Ok(TX));
}

#[test]
fn a_request_without_our_software_or_fingerprint_is_refused() {
    let mut bare = Vec::new();
    put_header(&mut bare, BINDING_REQUEST, 0, TX);
    assert_eq!(parse_request(&bare), Err(StunError::NotTailnode));
    let mut software_only = Vec::new();
    put_header(&mut software_only, BINDING_REQUEST, 12, TX);
    put_attribute(&mut software_only, ATTR_SOFTWARE, SOFTWARE);
    assert_eq!(parse_request(&software_only), Err(StunError::NotTailnode));
    let mut wrong = request(TX);
    wrong[REQUEST_LEN - 1] ^= 1;
    assert_eq!(parse_request(&wrong), Err(StunError::NotTailnode));
}

#[test]
fn the_plain_mapped_address_serves_when_no_xored_one_is_there() {
    let mut out = Vec::new();
    put_header(&mut out, BINDING_SUCCESS, 12, TX);
    put_attribute(&mut out, ATTR_MAPPED_ADDRESS, &[0, 1, 0x1f, 0x90, 192, 0, 2, 7]);
    let mapped = "192.0.2.7:8080".parse().unwrap();
    assert_eq!(parse_response(&out), Ok(Response { tx_id: TX, mapped }));
}

/// As Headscale answers, whose socket is a dual-stack one.
#[test]
fn an_ipv4_address_mapped_into_ipv6_is_unmapped() {
    let mut value = vec![0, 2];
    value.extend((8080u16 ^ xor_port()).to_be_bytes());
    value.extend(xor(Ipv4Addr::new(192, 0, 2, 7).to_ipv6_mapped().octets(), TX));
    let mut out = Vec::new();
    put_header(&mut out, BINDING_SUCCESS, 4 + value.len(), TX);
    put_attribute(&mut out, ATTR_XOR_MAPPED_ADDRESS, &value);
    let mapped = "192.0.2.7:8080".parse().unwrap();
    assert_eq!(parse_response(&out), Ok(Response { tx_id: TX, mapped }));
}

#[test]
fn the_draft_attribute_number_is_understood() {
    let mapped = "192.0.2.7:8080".parse().unwrap();
    let mut out = response(TX, mapped);
    out[HEADER_LEN] = 0x80;
    assert_eq!(parse_response(&out), Ok(Response { tx_id: TX, mapped }));
}

/// RFC 5769 section 2.2 and 2.3: sample responses of another implementation, IPv4 and IPv6.
#[test]
fn rfc_5769_responses_are_read() {
    let tx_id = TxId(*b"\xb7\xe7\xa7\x01\xbc\x34\xd6\x86\xfa\x87\xdf\xae");
    let mut v4 = hex::decode("0101002c2112a442b7e7a701bc34d686fa87dfae").unwrap();
    v4.extend(hex::decode("8022000b7465737420766563746f7220").unwrap());
    v4.extend(hex::decode("002000080001a147e112a643").unwrap());
    v4.extend([0; 16]);
    v4[3] = (v4.len() - HEADER_LEN) as u8;
    assert_eq!(
        parse_response(&v4),
        Ok(Response {
            tx_id,
            mapped: "192.0.2.1:32853".parse().unwrap()
        })
    );
    let mut v6 = hex::decode("010100182112a442b7e7a701bc34d686fa87dfae").unwrap();
    v6.extend(hex::decode("002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9").unwrap());
    assert_eq!(
        parse_response(&v6),
        Ok(Response {
            tx_id,
            mapped: "[2001:db8:1234:5678:11:2233:4455:6677]:32853".parse().unwrap()
        })
    );
}

#[test]
fn requests_and_responses_are_those_of_go() {
    let v4 = "192.0.2.7:41641".parse().unwrap();
    let v6 = "[2001:db8::1]:41641".parse().unwrap();
    assert_eq!(request(TX).to_vec(), crate::go_vector("stun_request"));
    assert_eq!(response(TX, v4), crate::go_vector("stun_response4"));
    assert_eq!(response(TX, v6), crate::go_vector("stun_response6"));
}

proptest! {
    #[test]
    fn responses_round_trip(tx: [u8; 12], ip: IpAddr, port: u16) {
        let mapped = SocketAddr::new(ip.to_canonical(), port);
        let tx_id = TxId(tx);
        prop_assert_eq!(parse_response(&response(tx_id, mapped)), Ok(Response { tx_id, mapped }));
    }

    #[test]
    fn no_truncation_or_flip_panics(ip: IpAddr, at: prop::sample::Index, bit in 0u8..8) {
        for mut bytes in [response(TX, SocketAddr::new(ip, 7)), request(TX).to_vec()] {
            let at = at.index(bytes.len());
            let _ = parse_response(&bytes[..at]);
            prop_assert!(parse_request(&bytes[..at]).is_err());
            bytes[at] ^= 1 << bit;
            let _ = parse_response(&bytes);
            let _ = parse_request(&bytes);
        }
    }

    #[test]
    fn no_bytes_panic(tail in proptest::collection::vec(any::<u8>(), 0..80)) {
        for kind in [BINDING_REQUEST, BINDING_SUCCESS] {
            let mut bytes = Vec::new();
            put_header(&mut bytes, kind, tail.len(), TX);
            bytes.extend(&tail);
            let _ = parse_response(&bytes);
            let _ = parse_request(&bytes);
        }
    }
}
