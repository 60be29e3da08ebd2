//! chitchat's way to other workers: one UDP socket, through which only sealed frames go.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use async_trait::async_trait;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{RecvOutcome, SendOutcome, Socket, Transport};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::counters::{GossipCounters, increment};
use super::loopback::Loopback;
use super::pulse::Pulse;
use super::seal::{Opener, Refusal, Seal};

/// Messages that were opened and wait for chitchat; those beyond are dropped, as UDP may.
const QUEUE_MESSAGES: usize = 64;
/// How long to wait when the socket cannot be read, which is not known to happen.
const RECEIVE_RETRY: Duration = Duration::from_millis(100);
/// Addresses of other clusters, and those with another key, that the log names, once each.
const NAMED_MAX: usize = 16;

/// What the parts of the transport share.
#[derive(Debug)]
pub struct Shared {
    pub seal: Arc<Seal>,
    pub counters: Arc<GossipCounters>,
    pub pulse: Pulse,
}

/// The transport that [`Gossip`](super::Gossip) uses. Only tests and benchmarks see it, to put losses around it.
pub struct SealedTransport {
    /// Taken by the one socket that it opens.
    socket: Mutex<Option<SealedSocket>>,
}

impl SealedTransport {
    /// Takes the address, and gives the future that reads from there until it is dropped.
    pub async fn bind(
        listen: SocketAddr,
        shared: Arc<Shared>,
    ) -> anyhow::Result<(Self, SocketAddr, impl Future<Output = ()> + Send + use<>)> {
        let outer =
            UdpSocket::bind(listen).await.with_context(|| format!("cannot listen at {listen} (UDP) for gossip"))?;
        let outer = Arc::new(outer);
        let address = outer.local_addr()?;
        let (sender, received) = mpsc::channel(QUEUE_MESSAGES);
        let receiver = Receiver {
            outer: outer.clone(),
            opener: Opener::new(shared.seal.clone()),
            decoder: Loopback::default(),
            counters: shared.counters.clone(),
            named: Named::default(),
            sender,
        };
        let socket = SealedSocket { outer, address, encoder: Loopback::default(), shared, received };
        Ok((SealedTransport { socket: Mutex::new(Some(socket)) }, address, receiver.run()))
    }
}

#[async_trait]
impl Transport for SealedTransport {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok(Box::new(socket.context("the transport was opened before")?))
    }
}

/// Seals what chitchat sends, and has what was opened.
struct SealedSocket {
    outer: Arc<UdpSocket>,
    address: SocketAddr,
    encoder: Loopback,
    shared: Arc<Shared>,
    received: mpsc::Receiver<RecvOutcome>,
}

#[async_trait]
impl Socket for SealedSocket {
    fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        Ok(self.address)
    }

    /// Never fails: what cannot be sent is counted, and chitchat says it again.
    async fn send(&mut self, to: SocketAddr, envelope: ChitchatEnvelope) -> anyhow::Result<SendOutcome> {
        let counters = &self.shared.counters;
        if self.shared.pulse.is_silent() {
            increment(&counters.silenced);
            return Ok(SendOutcome { num_bytes_sent: 0 });
        }
        let message = self.encoder.encode(envelope).await.inspect_err(|error| tracing::debug!(%error, "not encoded"));
        let frames = message.ok().and_then(|message| self.shared.seal.seal(&message));
        let Some(frames) = frames else {
            increment(&counters.unencodable);
            return Ok(SendOutcome { num_bytes_sent: 0 });
        };
        let mut num_bytes_sent = 0;
        for frame in frames {
            match self.outer.send_to(&frame, reachable(to, self.address)).await {
                Ok(count) => {
                    increment(&counters.sent);
                    num_bytes_sent += count;
                }
                Err(error) => {
                    increment(&counters.send_failed);
                    tracing::debug!(%to, %error, "a datagram of gossip could not be sent");
                }
            }
        }
        Ok(SendOutcome { num_bytes_sent })
    }

    async fn recv(&mut self) -> anyhow::Result<RecvOutcome> {
        self.received.recv().await.context("the task that receives gossip has ended")
    }
}

/// A socket of IPv6 reaches addresses of IPv4 by another name.
fn reachable(to: SocketAddr, own: SocketAddr) -> SocketAddr {
    match (to.ip(), own.ip()) {
        (IpAddr::V4(ip), IpAddr::V6(_)) => (ip.to_ipv6_mapped(), to.port()).into(),
        _ => to,
    }
}

/// Opens what comes in. A task of its own, since chitchat drops the future of `recv` whenever something else happens.
struct Receiver {
    outer: Arc<UdpSocket>,
    opener: Opener,
    decoder: Loopback,
    counters: Arc<GossipCounters>,
    named: Named,
    sender: mpsc::Sender<RecvOutcome>,
}

impl Receiver {
    async fn run(mut self) {
        // One byte more than a datagram can have in IPv4: IPv6 carries longer ones.
        let mut buffer = vec![0; super::wire::DATAGRAM_MAX_BYTES + 1];
        while !self.sender.is_closed() {
            match self.outer.recv_from(&mut buffer).await {
                Ok((length, from)) => self.handle(&buffer[..length], from).await,
                Err(error) => {
                    tracing::warn!(%error, "gossip cannot be received");
                    tokio::time::sleep(RECEIVE_RETRY).await;
                }
            }
        }
    }

    async fn handle(&mut self, datagram: &[u8], from: SocketAddr) {
        increment(&self.counters.received);
        let message = match self.opener.open(datagram) {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(refusal) => {
                self.counters.refused(refusal);
                return self.named.refused(refusal, from);
            }
        };
        let envelope = match self.decoder.decode(&message).await {
            Ok(envelope) => envelope,
            Err(error) => {
                increment(&self.counters.undecodable);
                tracing::debug!(%from, %error, "a message of gossip cannot be read");
                return;
            }
        };
        let outcome = RecvOutcome { from_addr: from, envelope, num_bytes_received: datagram.len() };
        if self.sender.try_send(outcome).is_err() {
            increment(&self.counters.overflowed);
        }
    }
}

/// What the log has said already. Everybody can send such datagrams, so few are named.
#[derive(Debug, Default)]
struct Named {
    clusters: BTreeSet<IpAddr>,
    keys: BTreeSet<IpAddr>,
    versions: BTreeSet<IpAddr>,
}

impl Named {
    fn refused(&mut self, refusal: Refusal, from: SocketAddr) {
        let is_first = |named: &mut BTreeSet<IpAddr>| named.len() < NAMED_MAX && named.insert(from.ip());
        match refusal {
            Refusal::ForeignCluster if is_first(&mut self.clusters) => tracing::warn!(
                %from, "gossip of a cluster with another group.id comes from here; it is dropped. Is its cluster.seeds right?"
            ),
            Refusal::WrongKey if is_first(&mut self.keys) => tracing::warn!(
                %from,
                "gossip of this cluster with another key comes from here; it is dropped. Check that cluster.secret is the same at all workers, \
                 and that they have the same config topic; it may be a key that has just been replaced"
            ),
            Refusal::ForeignVersion(version) if is_first(&mut self.versions) => tracing::warn!(
                %from, version, "gossip of an unknown version comes from here; it is dropped"
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_addresses_are_named_once_each() {
        let mut named = Named::default();
        for _ in 0..2 {
            for last in 0..100 {
                let from = SocketAddr::from(([10, 0, 0, last], 1));
                named.refused(Refusal::ForeignCluster, from);
                named.refused(Refusal::Forged, from);
            }
        }
        assert_eq!((named.clusters.len(), named.keys.len()), (NAMED_MAX, 0));
    }

    #[test]
    fn a_socket_of_ipv6_reaches_ipv4() {
        let (four, six) = ("10.0.0.1:5".parse().unwrap(), "[::1]:6".parse().unwrap());
        assert_eq!(reachable(four, six), "[::ffff:10.0.0.1]:5".parse().unwrap());
        assert_eq!(reachable(four, four), four);
        assert_eq!(reachable(six, six), six);
    }
}
