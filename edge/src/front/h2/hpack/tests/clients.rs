//! Header blocks as a real client writes them: h2's.

use http::Request;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::super::Decoder;
use super::{Field, decode};

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const EMPTY_SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// The next header block that comes. No frame is padded or carries a priority here.
async fn next_block(wire: &mut DuplexStream) -> Vec<u8> {
    let mut block = Vec::new();
    loop {
        let mut head = [0; 9];
        wire.read_exact(&mut head).await.unwrap();
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let mut payload = vec![0; length];
        wire.read_exact(&mut payload).await.unwrap();
        if matches!(head[3], HEADERS | CONTINUATION) {
            assert_eq!(head[4] & 0x28, 0, "padded, or with a priority");
            block.extend(payload);
            if head[4] & END_HEADERS != 0 {
                return block;
            }
        }
    }
}

fn request(path: &str, fields: &[(&'static str, String)]) -> Request<()> {
    let mut request = Request::get(format!("https://go.example.com{path}"));
    for (name, value) in fields {
        request = request.header(*name, value);
    }
    request.body(()).unwrap()
}

fn fields_of(request: &Request<()>) -> Vec<Field> {
    let target = request.uri().path_and_query().unwrap().as_str();
    let pseudo = [
        (":method", request.method().as_str()),
        (":scheme", "https"),
        (":authority", "go.example.com"),
        (":path", target),
    ];
    let pseudo = pseudo.map(|(name, value)| (name.as_bytes().to_vec(), value.as_bytes().to_vec()));
    let fields = request.headers().iter();
    let fields = fields.map(|(name, value)| (name.as_str().into(), value.as_bytes().to_vec()));
    let mut all: Vec<Field> = pseudo.into_iter().chain(fields).collect();
    all.sort();
    all
}

/// A go command's requests, one unlike the others, and one too large for a frame and for the table.
fn requests() -> Vec<Request<()>> {
    let go = || ("user-agent", "Go-http-client/2.0".to_owned());
    let zip = || ("accept-encoding", "gzip".to_owned());
    let mut requests: Vec<_> = (0..90)
        .map(|n| format!("/github.com/!burnt!sushi/toml/@v/v1.{n}.0+incompatible.zip?a={n}"))
        .map(|path| request(&path, &[go(), zip()]))
        .collect();
    let large = ["x".repeat(3000), "~".repeat(12_000), "e".repeat(9000)];
    let [a, b, c] = large.map(|value| ("x-large", value));
    requests.push(request("/large", &[a, b, c, go()]));
    let token = ("authorization", "Basic bW9kY2RuOg==".to_owned());
    requests.push(request("/private", &[token, go(), zip()]));
    requests.push(request("/", &[go(), zip()]));
    requests
}

#[tokio::test]
async fn what_h2_encodes_is_decoded() {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let client = tokio::spawn(async move {
        let (mut send, connection) = h2::client::handshake(theirs).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut pending = Vec::new();
        for request in requests() {
            send = send.ready().await.unwrap();
            pending.push(send.send_request(request, true).unwrap());
        }
        connection.await.unwrap().ok();
    });
    let mut ours: DuplexStream = ours;
    ours.write_all(&EMPTY_SETTINGS).await.unwrap();
    ours.read_exact(&mut [0; PREFACE]).await.unwrap();
    let mut decoder = Decoder::new(4096);
    for request in requests() {
        let block = next_block(&mut ours).await;
        let mut fields = decode(&mut decoder, &block).unwrap();
        fields.sort();
        assert_eq!(fields, fields_of(&request));
        decoder.assert_bounded();
    }
    assert!(decoder.dynamic().1 > 3000, "it did use the table");
    drop(ours);
    client.await.unwrap();
}
