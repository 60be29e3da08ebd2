//! Plays the REST server of another worker over real sockets: answers every request alike, and ends connections as a script says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};

/// Long enough for a busy machine; a test that waits so long has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a connection does once it has given its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// Ends at once.
    Close,
    /// Ends when the next request comes, without an answer.
    CloseOnRequest,
    /// Reads on and says nothing.
    Silence,
}

/// How many answers a connection gives, and what then; by the number of the connection.
pub type Script = fn(usize) -> (usize, Then);

/// Answers for ever.
pub const STEADY: Script = |_| (usize::MAX, Then::Silence);

/// See the module. Dropped, it ends as a process does: with its sockets.
pub struct TestWorker {
    pub url: String,
    accepted: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
    /// The numbers of connections that the other side has ended.
    left: mpsc::UnboundedReceiver<usize>,
    running: JoinHandle<()>,
}

/// What `GET /cluster/self` of a worker answers.
pub fn identity(nonce: u64, process: &str) -> String {
    serde_json::json!({"worker_id": "x:1", "nonce": nonce.to_string(), "process": process}).to_string()
}

impl TestWorker {
    /// Answers 200 with this body.
    pub async fn start(body: String, script: Script) -> TestWorker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let (accepted, answered) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let (leaves, left) = mpsc::unbounded_channel();
        let counts = (accepted.clone(), answered.clone());
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let running = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let number = counts.0.fetch_add(1, Ordering::SeqCst);
                let (answer, answered, leaves) = (answer.clone(), counts.1.clone(), leaves.clone());
                connections.spawn(async move {
                    if converse(stream, &answer, script(number), &answered).await {
                        // Nobody listens any more when the test is over.
                        leaves.send(number).ok();
                    }
                });
            }
        });
        TestWorker { url, accepted, answered, left, running }
    }

    /// Connections that were made to it.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Requests that it has answered.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// Waits until the other side ends a connection: its number.
    pub async fn left(&mut self) -> usize {
        let left = tokio::time::timeout(PATIENCE, self.left.recv()).await;
        left.expect("a connection ends in time").expect("the worker runs")
    }
}

impl Drop for TestWorker {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// Whether the other side ended it.
async fn converse(mut stream: TcpStream, answer: &str, (answers, then): (usize, Then), answered: &AtomicUsize) -> bool {
    for _ in 0..answers {
        if !read_request(&mut stream).await || stream.write_all(answer.as_bytes()).await.is_err() {
            return true;
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
    match then {
        Then::Close => false,
        Then::CloseOnRequest => !read_request(&mut stream).await,
        Then::Silence => {
            while read_request(&mut stream).await {}
            true
        }
    }
}

/// Reads the head of a request without a body; false: there is no further one.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    true
}
