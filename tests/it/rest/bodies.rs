//! Bodies that cannot be used: each gets an answer that says why, and soon.

use std::time::{Duration, Instant};

use connect_node::rest::{BODY_BYTES_MAX, Limits};

use super::support::{fake_herder, server, server_with};

const HEAD: &str = "POST /connectors HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\n";

#[tokio::test]
async fn malformed_json_is_located() {
    let server = server().await;
    for (body, part) in [
        (&b"{\"name\": \"a\", "[..], "at line 1 column"),
        (b"garbage", "at line 1 column 1"),
        (b"{\n\"name\": \"a\",\n\"config\": {\"x\": }}", "at line 3 column"),
        (b"[]", "JSON array"),
        (b"null", "null"),
        (b"{}", "config"),
        (b"{\"name\":\"a\",\"config\":{},\"more\":1}", "unknown field `more`"),
        (b"{\"name\":\"a\",\"config\":{\"x\":{}}}", "\"x\" is an object"),
        (b"{\"name\":\"\xff\"}", "not valid UTF-8 at line 1 column 10"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"\xff\xfe{\x00}\x00", "UTF-16"),
    ] {
        let message = server.json("POST", "/connectors", body).await.error(400);
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
    let message = server.json("POST", "/connectors", "").await.error(400);
    assert!(message.contains("the body is empty"), "{message}");
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn deep_json_is_refused_quickly() {
    let server = server().await;
    let begun = Instant::now();
    for open in ["[", "{\"a\":"] {
        for prefix in ["", r#"{"name":"a","config":"#, r#"{"name":"a","config":{"x":"#] {
            server.json("POST", "/connectors", format!("{prefix}{}", open.repeat(180_000))).await.error(400);
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn size_is_bounded_at_the_constant() {
    let server = server().await;
    let shell = r#"{"name":"a","config":{"x":""}}"#.len();
    let body = |length: u64| format!(r#"{{"name":"a","config":{{"x":"{}"}}}}"#, "y".repeat(length as usize - shell));
    assert_eq!(server.json("POST", "/connectors", body(BODY_BYTES_MAX)).await.status, 201);
    let message = server.json("POST", "/connectors", body(BODY_BYTES_MAX + 1)).await.error(413);
    assert!(message.contains("1048576 bytes"), "{message}");
}

#[tokio::test]
async fn fifty_megabytes_get_their_answer() {
    let server = server().await;
    let begun = Instant::now();
    let declared = [format!("{HEAD}Content-Length: {}\r\n\r\n", 50 << 20).into_bytes(), vec![b' '; 50 << 20]];
    server.send_then_read(declared.concat()).await.error(413);
    let chunk = [format!("{:x}\r\n", 1 << 20).as_bytes(), &vec![b' '; 1 << 20], b"\r\n"].concat();
    let head = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    server.send_then_read([head, chunk.repeat(50), b"0\r\n\r\n".to_vec()].concat()).await.error(413);
    // a refusal by path waits for the body as well
    let elsewhere =
        [HEAD.replace("/connectors", "/nope").into_bytes(), declared[0][HEAD.len()..].to_vec(), vec![0; 50 << 20]];
    server.send_then_read(elsewhere.concat()).await.error(404);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(server.get("/connectors").await.status, 200);
}

#[tokio::test]
async fn what_is_not_worth_reading_is_not_read() {
    let server = server().await;
    // nothing follows: the client waits for a go-ahead, or the length is beyond all patience
    for headers in ["Content-Length: 2000000\r\nExpect: 100-continue", "Content-Length: 999999999999"] {
        let answer = server.raw(format!("{HEAD}{headers}\r\n\r\n")).await;
        answer.error(413);
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn chunked_bodies_are_read() {
    let server = server().await;
    let chunked = |body: &str| format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n{body}");
    let answer = server.raw(chunked("c\r\n{\"name\":\"a\",\r\nc;ext=1\r\n\"config\":{}}\r\n0\r\n\r\n")).await;
    assert_eq!(answer.status, 201);
    let message = server.raw(chunked("zz\r\n{}\r\n0\r\n\r\n")).await.error(400);
    assert!(message.contains("chunks"), "{message}");
}

#[tokio::test]
async fn a_truncated_body_is_an_error_of_the_client() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let server = server().await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    stream.write_all(format!("{HEAD}Content-Length: 100\r\n\r\n{{\"name\"").as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let message = super::support::Answer::parse(&answer).error(400);
    assert!(message.contains("ends too early"), "{message}");
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let limits = Limits { body_read: Duration::from_millis(200), ..Limits::default() };
    let server = server_with(limits, fake_herder).await;
    let message = server.raw(format!("{HEAD}Content-Length: 100\r\n\r\n{{")).await.error(408);
    assert!(message.contains("200 ms"), "{message}");
    // the refusal of a slow body to a path that does not exist is that of the path
    server.raw("POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await.error(404);
}
