//! What a client may do to the server over HTTP/2 that HTTP/1.1 does not let it: many streams at once, headers without end,
//! requests that it takes back, answers that it does not take.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    time::timeout,
};

use super::*;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// RFC 9113 7.
const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;
const PATIENCE: Duration = Duration::from_secs(5);

/// A client that keeps to no rule: it writes and reads frames.
struct Raw {
    reading: ReadHalf<DuplexStream>,
    writing: WriteHalf<DuplexStream>,
}

#[derive(Debug)]
struct Frame {
    kind: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    /// The error code of a `RST_STREAM` or `GOAWAY`.
    fn error(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A request in HPACK, of literals and entries of the static table.
fn request(method: &str, path: &str) -> Vec<u8> {
    let literal = |name: u8, value: &str| [&[name, u8::try_from(value.len()).unwrap()], value.as_bytes()].concat();
    [
        vec![0x86],
        literal(0x42, method),
        literal(0x44, path),
        literal(0x41, HOST),
    ]
    .concat()
}

fn ask(stream: u32, method: &str, path: &str) -> Vec<u8> {
    frame(HEADERS, END_STREAM | END_HEADERS, stream, &request(method, path))
}

impl Raw {
    /// Connects; `window` is how much of each answer it takes.
    async fn connect(rig: &Rig, node: &Node, window: u32) -> Self {
        let (reading, writing) = split(rig.connect(node).await);
        let mut raw = Self { reading, writing };
        let settings = [&[0, 4], window.to_be_bytes().as_slice()].concat();
        raw.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.write(&frame(SETTINGS, 0, 0, &settings)).await;
        raw
    }

    async fn write(&mut self, bytes: &[u8]) {
        self.writing.write_all(bytes).await.unwrap();
    }

    async fn read(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        timeout(PATIENCE, self.reading.read_exact(&mut head))
            .await
            .expect("a frame or the end")
            .ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.reading.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
        let kind = head[3];
        Some(Frame { kind, stream, payload })
    }

    /// The next frame of this kind; none when the connection ends first.
    async fn next(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.read().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }
}

#[tokio::test]
async fn requests_that_are_taken_back_at_once_end_the_connection() {
    let rig = Rig::start(config()).await;
    let mut raw = Raw::connect(&rig, &Node::alice(), 65_535).await;
    let mut burst = Vec::new();
    for stream in (1..400).step_by(2) {
        burst.extend(ask(stream, "GET", "/"));
        burst.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.write(&burst).await;
    let end = raw.next(GOAWAY).await.expect("it says why");
    assert_eq!(end.error(), ENHANCE_YOUR_CALM);
    assert!(raw.next(GOAWAY).await.is_none(), "it has ended");
}

#[tokio::test]
async fn headers_without_end_end_the_connection() {
    let rig = Rig::start(config()).await;
    let mut raw = Raw::connect(&rig, &Node::alice(), 65_535).await;
    raw.write(&frame(HEADERS, END_STREAM, 1, &request("GET", "/"))).await;
    // A field that is new each time would grow a list, one that is empty only the work.
    let Raw {
        mut reading,
        mut writing,
    } = raw;
    let flood = tokio::spawn(async move {
        let mut sent = 0;
        while sent < 4 << 20 {
            let part = frame(CONTINUATION, 0, 1, &[0, 1, b'x', 1, b'y'].repeat(200));
            if writing.write_all(&part).await.is_err() {
                break;
            }
            sent += part.len();
        }
        sent
    });
    let mut answer = Vec::new();
    let ended = timeout(PATIENCE, reading.read_to_end(&mut answer)).await;
    assert!(ended.is_ok(), "the connection ends");
    let sent = flood.await.unwrap();
    assert!(sent < 1 << 20, "{sent} bytes of headers were taken");
    assert_eq!(rig.client(&Node::alice()).await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn more_streams_than_are_allowed_are_refused() {
    let rig = Rig::start(config()).await;
    let mut raw = Raw::connect(&rig, &Node::alice(), 65_535).await;
    for stream in (1..400).step_by(2) {
        raw.write(&frame(HEADERS, END_HEADERS, stream, &request("POST", "/token")))
            .await;
    }
    // Each is answered or refused; those that are open wait for a form that does not come, or had none.
    let refused = raw.next(RST_STREAM).await.expect("the rest is refused");
    assert_eq!(
        (refused.error(), refused.stream > 2 * 100),
        (REFUSED_STREAM, true),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_header_that_is_too_long_is_refused() {
    let rig = Rig::start(config()).await;
    let io = TokioIo::new(rig.connect(&Node::alice()).await);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(executor, io).await.unwrap();
    tokio::spawn(connection);
    let long = Request::get(format!("http://{HOST}/")).header("x", "x".repeat(40_000));
    let answer = sender
        .send_request(long.body(Full::<Bytes>::default()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn an_answer_that_is_not_taken_counts_against_its_node() {
    let mut small = config();
    small.limits.requests_per_peer = 3;
    let rig = Rig::start(small).await;
    let alice = Node::alice();
    let mut raw = Raw::connect(&rig, &alice, 0).await;
    for stream in [1, 3, 5] {
        raw.write(&ask(stream, "GET", "/")).await;
        assert_eq!(raw.next(HEADERS).await.unwrap().stream, stream, "it is answered");
    }
    let limited = rig.client(&alice).await.get("/").await;
    assert_eq!(
        limited.status,
        StatusCode::TOO_MANY_REQUESTS,
        "three answers wait in memory"
    );
    assert_eq!(rig.client(&Node::bob()).await.get("/").await.status, StatusCode::OK);
    drop(raw);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(rig.client(&alice).await.get("/").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_connection_whose_answers_are_not_taken_ends_however_busy_it_is() {
    let mut hasty = config();
    hasty.limits.idle_timeout = Duration::from_millis(200);
    hasty.limits.shutdown_grace = Duration::from_millis(100);
    let rig = Rig::start(hasty).await;
    let mut raw = Raw::connect(&rig, &Node::alice(), 0).await;
    raw.write(&ask(1, "GET", "/")).await;
    let Raw {
        mut reading,
        mut writing,
    } = raw;
    let reader = tokio::spawn(async move { reading.read_to_end(&mut Vec::new()).await });
    let busy = async {
        for stream in (3..).step_by(2) {
            // Without a body, so that it is answered whole.
            if writing.write_all(&ask(stream, "HEAD", "/")).await.is_err() || reader.is_finished() {
                return stream;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        0
    };
    let last = timeout(PATIENCE, busy).await.expect("it ends");
    assert!(last > 11, "not at once: {last}");
}
