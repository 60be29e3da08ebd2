//! A TCP relay in front of one worker, with a link that can be cut: that of one sender.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Bytes that are passed on at a time.
const CHUNK: usize = 16 << 10;

/// Passes on what comes to its port. Connections end with the test's runtime.
pub struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
    cut: watch::Sender<Option<u32>>,
    held: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
}

/// One connection.
#[derive(Clone)]
struct Link {
    /// Of the sender's end.
    port: u16,
    cut: watch::Receiver<Option<u32>>,
    held: Arc<AtomicUsize>,
    passed: Arc<AtomicUsize>,
}

impl Relay {
    /// On a port of its own, for now without anybody behind it.
    pub async fn start() -> Relay {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let relay = Relay {
            port,
            target: Default::default(),
            cut: watch::channel(None).0,
            held: Default::default(),
            passed: Default::default(),
        };
        let (target, cut) = (relay.target.clone(), relay.cut.subscribe());
        let (held, passed) = (relay.held.clone(), relay.passed.clone());
        tokio::spawn(async move {
            while let Ok((sender, address)) = listener.accept().await {
                let (cut, held, passed) = (cut.clone(), held.clone(), passed.clone());
                let link = Link { port: address.port(), cut, held, passed };
                tokio::spawn(pass(sender, target.load(Ordering::Relaxed), link));
            }
        });
        relay
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Who is behind it.
    pub fn pass_on_to(&self, port: u16) {
        self.target.store(port, Ordering::Relaxed);
    }

    /// Holds back what a process sends, and the answers to it, as a network does that is cut.
    pub fn cut_from(&self, process: u32) {
        self.cut.send_replace(Some(process));
    }

    pub fn heal(&self) {
        self.cut.send_replace(None);
    }

    /// How many connections were made in vain so far.
    pub fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    /// How many chunks were passed on so far, either way: short requests and their answers are one each.
    pub fn passed(&self) -> usize {
        self.passed.load(Ordering::Relaxed)
    }
}

impl Link {
    /// Returns when nothing holds it back.
    async fn passable(&mut self) {
        loop {
            let process = *self.cut.borrow_and_update();
            let is_cut = process.is_some_and(|process| holds(process, self.port));
            // Who changes it lives as long as the relay; without it everything is over.
            if !is_cut || self.cut.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn pass(sender: TcpStream, target: u16, mut link: Link) {
    let process = *link.cut.borrow();
    if process.is_some_and(|process| holds(process, link.port)) {
        link.held.fetch_add(1, Ordering::Relaxed);
    }
    link.passable().await;
    let Ok(receiver) = TcpStream::connect(("127.0.0.1", target)).await else { return };
    let ((from, back), (answers, to)) = (sender.into_split(), receiver.into_split());
    tokio::join!(pump(from, to, link.clone()), pump(answers, back, link));
}

/// One direction, to its end. An error of either side is an end.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut link: Link) {
    let mut chunk = [0; CHUNK];
    while let Ok(bytes @ 1..) = from.read(&mut chunk).await {
        link.passable().await;
        if to.write_all(&chunk[..bytes]).await.is_err() {
            return;
        }
        link.passed.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a process holds the TCP socket with this local port, as the kernel says.
fn holds(process: u32, port: u16) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sockets: Vec<String> = fields
        .filter(|fields| fields.get(1).is_some_and(|address| address.ends_with(&local)))
        .filter_map(|fields| Some(format!("socket:[{}]", fields.get(9)?)))
        .collect();
    // The process, or a descriptor of it, may be gone by now.
    let Ok(open) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    let targets = open.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.into_iter().any(|target| sockets.iter().any(|socket| target.as_os_str() == socket.as_str()))
}
