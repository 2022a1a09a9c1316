use super::*;

/// A proxy whose every target is one echo; the target's name comes first.
async fn proxy() -> Socks5 {
    let dial = |target: String| async move {
        if target.starts_with("closed:") {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (ours, mut theirs) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            theirs.write_all(target.as_bytes()).await?;
            let (mut reader, mut writer) = tokio::io::split(theirs);
            tokio::io::copy(&mut reader, &mut writer).await
        });
        Ok(ours)
    };
    Socks5::start(0, dial).await.unwrap()
}

async fn exchange(bytes: &[u8], answer: usize) -> (TcpStream, Vec<u8>) {
    let mut client = TcpStream::connect(proxy_address().await).await.unwrap();
    client.write_all(bytes).await.unwrap();
    let mut got = vec![0; answer];
    client.read_exact(&mut got).await.unwrap();
    (client, got)
}

async fn proxy_address() -> SocketAddr {
    let proxy = proxy().await;
    let address = proxy.address();
    // Lives as long as the test's runtime.
    tokio::spawn(async move {
        std::future::pending::<()>().await;
        drop(proxy);
    });
    address
}

#[tokio::test]
async fn connects_by_name_and_carries_bytes_both_ways() {
    let request = b"\x05\x01\x00\x05\x01\x00\x03\x0bidp.example\x01\xbb";
    let (mut client, got) = exchange(request, 12 + 15).await;
    assert_eq!(got[..4], [5, 0, 5, 0]);
    assert_eq!(&got[12..], b"idp.example:443");
    client.write_all(b"hello").await.unwrap();
    let mut echo = [0; 5];
    client.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, b"hello");
}

#[tokio::test]
async fn connects_by_address_of_both_families() {
    let (_, got) = exchange(b"\x05\x02\x02\x00\x05\x01\x00\x01\x64\x40\x00\x01\x00\x50", 12 + 13).await;
    assert_eq!(&got[12..], b"100.64.0.1:80");
    let mut request = b"\x05\x01\x00\x05\x01\x00\x04".to_vec();
    request.extend(std::net::Ipv6Addr::LOCALHOST.octets());
    request.extend([0, 80]);
    let (_, got) = exchange(&request, 12 + 8).await;
    assert_eq!(&got[12..], b"[::1]:80");
}

#[tokio::test]
async fn says_why_it_refuses() {
    let (_, got) = exchange(b"\x05\x01\x00\x05\x01\x00\x03\x06closed\x00\x01", 4).await;
    assert_eq!(got[2..], [5, Reply::Refused as u8]);
    let (_, got) = exchange(b"\x05\x01\x00\x05\x02\x00\x01\x7f\x00\x00\x01\x00\x01", 4).await;
    assert_eq!(got[2..], [5, Reply::CommandNotSupported as u8], "BIND");
    let (_, got) = exchange(b"\x05\x01\x00\x05\x01\x00\x09", 4).await;
    assert_eq!(got[2..], [5, Reply::AddressNotSupported as u8]);
    let (_, got) = exchange(b"\x05\x01\x02", 2).await;
    assert_eq!(got, [5, NO_ACCEPTABLE_METHOD], "a password is wanted");
}
