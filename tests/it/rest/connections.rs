//! Connections: slow clients, silent clients, too many clients, panics, shutdown.

use std::time::{Duration, Instant};

use connect_node::actors::handle::HerderRequest;
use connect_node::rest::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::{Answer, fake_herder, server, server_with};

/// Far longer than the limits that the tests set, far shorter than the default ones.
const SOON: Duration = Duration::from_secs(5);

async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("the server closes soon");
    // a reset is a way to close
    drop(read);
    bytes
}

#[tokio::test]
async fn slow_heads_are_dropped() {
    let limits = Limits { header_read: Duration::from_millis(200), ..Limits::default() };
    let server = server_with(limits, fake_herder).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let begun = Instant::now();
    // a byte now and then does not extend the time
    let drip = async {
        for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".chunks(1) {
            if stream.write_all(byte).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        read_to_end(&mut stream).await;
    };
    tokio::time::timeout(SOON, drip).await.expect("the server closes soon");
    assert!(begun.elapsed() >= Duration::from_millis(200));
    // and who says nothing at all
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    read_to_end(&mut stream).await;
}

#[tokio::test]
async fn broken_heads_are_refused() {
    let server = server().await;
    for request in [
        "nonsense\r\n\r\n".to_owned(),
        "GET /a b HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n".to_owned(),
        "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_owned(),
    ] {
        assert_eq!(server.raw(&request).await.status, 400, "{request:?}");
    }
    for (request, statuses) in [
        (format!("GET / HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(5000)), [431, 431]),
        (format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(1 << 20)), [431, 431]),
        (format!("GET /{} HTTP/1.1\r\n\r\n", "y".repeat(1 << 20)), [414, 431]),
    ] {
        let status = server.raw(&request).await.status;
        assert!(statuses.contains(&status), "{status}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let server = server().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // pipelined, one refused with a body in between
    stream
        .write_all(
            b"GET /connectors HTTP/1.1\r\nHost: x\r\n\r\n\
              POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc\
              PUT /connectors/a/pause HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        )
        .await
        .unwrap();
    let text = String::from_utf8(read_to_end(&mut stream).await).unwrap();
    let statuses: Vec<_> = text.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["200", "404", "202"]);
}

#[tokio::test]
async fn connections_are_bounded() {
    let limits = Limits { connections: 2, header_read: Duration::from_millis(500), ..Limits::default() };
    let server = server_with(limits, fake_herder).await;
    let silent = [TcpStream::connect(server.address).await.unwrap(), TcpStream::connect(server.address).await.unwrap()];
    let begun = Instant::now();
    // waits until the silent ones are dropped
    assert_eq!(server.get("/connectors").await.status, 200);
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    drop(silent);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_dropped() {
    let limits = Limits { connections: 1, write: Duration::from_millis(300), ..Limits::default() };
    let many = |mut queue: tokio::sync::mpsc::Receiver<HerderRequest>, _| async move {
        while let Some(request) = queue.recv().await {
            match request {
                HerderRequest::Connectors(reply) => drop(reply.send(Ok(vec!["x".repeat(1000); 20_000]))),
                HerderRequest::Health(reply) => drop(reply.send(Ok("well".into()))),
                other => panic!("not asked for: {other:?}"),
            }
        }
    };
    let server = server_with(limits, many).await;
    let mut deaf = TcpStream::connect(server.address).await.unwrap();
    deaf.write_all(b"GET /connectors HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let answer = tokio::time::timeout(SOON, server.get("/health")).await.expect("the only place is free again");
    assert_eq!(answer.status, 200);
    drop(deaf);
}

#[tokio::test]
async fn a_panic_is_answered() {
    #[derive(Debug)]
    struct Panics(prometheus::core::Desc);
    impl prometheus::core::Collector for Panics {
        fn desc(&self) -> Vec<&prometheus::core::Desc> {
            vec![&self.0]
        }
        fn collect(&self) -> Vec<prometheus::proto::MetricFamily> {
            panic!("this collector panics on purpose")
        }
    }
    let server = server().await;
    let metrics = server.get("/metrics").await;
    assert_eq!((metrics.status, metrics.header("content-type")), (200, Some("text/plain; version=0.0.4")));
    assert!(String::from_utf8(metrics.body).unwrap().contains("\nkafka_connect_worker_herder_queue_length 0\n"));
    let desc = prometheus::core::Desc::new("panics".into(), "Panics.".into(), vec![], Default::default()).unwrap();
    server.metrics.registry().register(Box::new(Panics(desc))).unwrap();
    let message = server.get("/metrics").await.error(500);
    assert!(message.contains("panicked") && !message.contains("on purpose"), "{message}");
    assert_eq!(server.get("/connectors").await.status, 200);
}

#[tokio::test]
async fn health_tells_starting_from_unhealthy() {
    use connect_node::actors::handle::HerderError;
    let moods = |mut queue: tokio::sync::mpsc::Receiver<HerderRequest>, _| async move {
        let mut moods =
            vec![Err(HerderError::Internal("out of order".into())), Err(HerderError::Unavailable("joining".into()))];
        while let Some(HerderRequest::Health(reply)) = queue.recv().await {
            match moods.pop() {
                Some(mood) => drop(reply.send(mood)),
                None => return,
            }
        }
    };
    let server = server_with(Limits::default(), moods).await;
    for (code, status, message) in
        [(503, "starting", "joining"), (500, "unhealthy", "out of order"), (500, "unhealthy", "crash")]
    {
        let answer = server.get("/health").await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (code, Some(status)));
        assert!(answer.json()["message"].as_str().unwrap().contains(message), "{}", answer.json());
    }
    // the herder is gone for good
    server.get("/connectors").await.error(503);
}

#[tokio::test]
async fn who_stops_sending_still_gets_the_answer() {
    let (arrived, arrival) = tokio::sync::oneshot::channel::<()>();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let slow = |mut queue: tokio::sync::mpsc::Receiver<HerderRequest>, _| async move {
        let Some(HerderRequest::Health(reply)) = queue.recv().await else { panic!("not asked for") };
        arrived.send(()).unwrap();
        gone.await.unwrap();
        drop(reply.send(Ok("well".into())));
    };
    let server = server_with(Limits::default(), slow).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.0\r\n\r\n").await.unwrap();
    arrival.await.unwrap();
    stream.shutdown().await.unwrap();
    // the server sees the end of the stream before it has an answer
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(100), stream.read(&mut byte)).await;
    assert!(early.is_err(), "closed without an answer");
    go.send(()).unwrap();
    assert_eq!(Answer::parse(&read_to_end(&mut stream).await).status, 200);
}

#[tokio::test]
async fn odd_requests_get_an_answer() {
    let server = server().await;
    for (request, status) in [
        ("GET / HTTP/1.0\r\n\r\n", 200),
        ("GET /connectors HTTP/1.1\r\nConnection: close\r\n\r\n", 200),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 404),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
        ("GET x:1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 400),
        ("GET /connectors/\u{fc}?\u{fc}=%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
        ("GET /?x=y#z HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200),
    ] {
        assert_eq!(server.raw(request).await.status, status, "{request:?}");
    }
}

#[tokio::test]
async fn shutdown_waits_for_requests_in_flight() {
    let (arrived, arrival) = tokio::sync::oneshot::channel::<()>();
    let (go, gone) = tokio::sync::oneshot::channel::<()>();
    let slow = |mut queue: tokio::sync::mpsc::Receiver<HerderRequest>, _| async move {
        let request = queue.recv().await;
        arrived.send(()).unwrap();
        gone.await.unwrap();
        match request {
            Some(HerderRequest::Health(reply)) => drop(reply.send(Ok("well".into()))),
            other => panic!("not asked for: {other:?}"),
        }
    };
    let mut server = server_with(Limits::default(), slow).await;
    let idle = TcpStream::connect(server.address).await.unwrap();
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    arrival.await.unwrap();
    server.stop.take().unwrap().send(()).unwrap();
    let closed = async { while TcpStream::connect(server.address).await.is_ok() {} };
    tokio::time::timeout(SOON, closed).await.expect("the socket is closed at once");
    assert!(!server.served.is_finished());
    go.send(()).unwrap();
    assert_eq!(Answer::parse(&read_to_end(&mut stream).await).status, 200);
    tokio::time::timeout(Duration::from_secs(2), &mut server.served).await.expect("the server ends").unwrap();
    drop(idle);
}
