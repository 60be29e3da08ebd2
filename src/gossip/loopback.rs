//! chitchat keeps the encoding of its messages to itself, so its own UDP transport encodes and decodes them: towards, and from, a
//! socket of ours on the loopback. One pair of sockets does one thing at a time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::Context;
use chitchat::ChitchatEnvelope;
use chitchat::transport::{Socket, Transport, UdpTransport};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::wire::MESSAGE_MAX_BYTES;

/// How long a message may take through the loopback, which takes microseconds unless it is lost or nobody has CPU. chitchat says nothing of a message that it
/// cannot read, so that costs this time as well; only who has the key can send one.
const LOOPBACK_TIMEOUT: Duration = Duration::from_millis(250);

/// Why a message did not come through.
#[derive(Debug, thiserror::Error)]
pub enum LoopbackError {
    #[error("no message came through within {LOOPBACK_TIMEOUT:?}")]
    Lost,
    #[error("{0:#}")]
    Failed(anyhow::Error),
}

/// A codec made of two sockets.
#[derive(Default)]
pub struct Loopback {
    /// Taken out while it is used. If it lost a message, or its user was cancelled, it is dropped: what comes late must not be taken for
    /// the next message.
    pair: Option<Pair>,
}

struct Pair {
    stock: Box<dyn Socket>,
    stock_address: SocketAddr,
    /// Connected, so that the system drops what others send to it.
    raw: UdpSocket,
    raw_address: SocketAddr,
    buffer: Vec<u8>,
    /// Whether the log names a stranger already: anybody here can send any number of messages.
    is_named: bool,
}

impl Pair {
    async fn open() -> anyhow::Result<Pair> {
        let stock = match UdpTransport.open((IpAddr::V4(Ipv4Addr::LOCALHOST), 0).into()).await {
            Ok(stock) => stock,
            Err(_) => UdpTransport.open((IpAddr::V6(Ipv6Addr::LOCALHOST), 0).into()).await?,
        };
        let stock_address = stock.local_addr()?;
        let raw = UdpSocket::bind((stock_address.ip(), 0)).await.context("cannot open a socket on the loopback")?;
        raw.connect(stock_address).await?;
        let raw_address = raw.local_addr()?;
        Ok(Pair { stock, stock_address, raw, raw_address, buffer: vec![0; MESSAGE_MAX_BYTES], is_named: false })
    }

    async fn encode(&mut self, envelope: ChitchatEnvelope) -> anyhow::Result<Vec<u8>> {
        self.stock.send(self.raw_address, envelope).await?;
        let length = self.raw.recv(&mut self.buffer).await?;
        Ok(self.buffer[..length].to_vec())
    }

    async fn decode(&mut self, message: &[u8]) -> anyhow::Result<ChitchatEnvelope> {
        self.raw.send(message).await?;
        loop {
            let outcome = self.stock.recv().await?;
            // Any program of this machine can send to the loopback; only ours has that address.
            if outcome.from_addr == self.raw_address {
                return Ok(outcome.envelope);
            }
            if std::mem::replace(&mut self.is_named, true) {
                continue;
            }
            tracing::warn!(from = %outcome.from_addr, to = %self.stock_address, "a stranger on the loopback");
        }
    }
}

impl Loopback {
    async fn take(&mut self) -> Result<Pair, LoopbackError> {
        match self.pair.take() {
            Some(pair) => Ok(pair),
            None => Pair::open().await.map_err(LoopbackError::Failed),
        }
    }

    /// The bytes of a message.
    pub async fn encode(&mut self, envelope: ChitchatEnvelope) -> Result<Vec<u8>, LoopbackError> {
        let mut pair = self.take().await?;
        let message = timeout(LOOPBACK_TIMEOUT, pair.encode(envelope)).await;
        let message = message.map_err(|_| LoopbackError::Lost)?.map_err(LoopbackError::Failed)?;
        self.pair = Some(pair);
        Ok(message)
    }

    /// The message of some bytes, which somebody with the key has sent.
    pub async fn decode(&mut self, message: &[u8]) -> Result<ChitchatEnvelope, LoopbackError> {
        let mut pair = self.take().await?;
        let envelope = timeout(LOOPBACK_TIMEOUT, pair.decode(message)).await;
        let envelope = envelope.map_err(|_| LoopbackError::Lost)?.map_err(LoopbackError::Failed)?;
        self.pair = Some(pair);
        Ok(envelope)
    }
}

#[cfg(test)]
mod tests {
    use chitchat::{ChitchatMessage, ProtocolVersion};

    use super::*;

    /// The one message that can be made outside of chitchat.
    fn envelope() -> ChitchatEnvelope {
        ChitchatEnvelope { version: ProtocolVersion::V1, message: ChitchatMessage::BadCluster }
    }

    #[tokio::test]
    async fn messages_come_back_also_behind_one_that_cannot_be_read() {
        let (mut encoder, mut decoder) = (Loopback::default(), Loopback::default());
        let message = encoder.encode(envelope()).await.unwrap();
        for _ in 0..3 {
            assert_eq!(decoder.decode(&message).await.unwrap(), envelope());
            assert!(matches!(decoder.decode(b"junk").await, Err(LoopbackError::Lost)));
        }
        assert_eq!(encoder.encode(envelope()).await.unwrap(), message);
    }

    #[tokio::test]
    async fn a_stranger_on_the_loopback_is_not_heard() {
        let (mut encoder, mut decoder) = (Loopback::default(), Loopback::default());
        let message = encoder.encode(envelope()).await.unwrap();
        decoder.decode(&message).await.unwrap();
        let pair = decoder.pair.as_mut().unwrap();
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&message, pair.stock_address).await.unwrap();
        stranger.send_to(&message, pair.raw_address).await.unwrap();
        // The stranger's message lies before ours.
        assert_eq!(decoder.decode(&message).await.unwrap(), envelope());
        assert!(matches!(decoder.decode(b"junk").await, Err(LoopbackError::Lost)));
    }

    #[tokio::test]
    async fn a_message_that_is_too_large_fails_alone() {
        let mut decoder = Loopback::default();
        let message = Loopback::default().encode(envelope()).await.unwrap();
        assert!(matches!(decoder.decode(&vec![0; 70_000]).await, Err(LoopbackError::Failed(_))));
        assert_eq!(decoder.decode(&message).await.unwrap(), envelope());
    }
}
