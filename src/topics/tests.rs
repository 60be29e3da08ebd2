//! What `produce` does with a line that is not stored.

use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::backend::BackendError;

/// Stores what it has taken when it is flushed and not before, as Kafka's client may.
#[derive(Default)]
struct Lazy {
    taken: Mutex<Vec<Bytes>>,
    stored: Mutex<Vec<Bytes>>,
    acks: Mutex<Vec<Ack>>,
}

#[async_trait]
impl RecordWriter for Lazy {
    fn send(&self, records: &[ProducerRecord]) -> backend::Result<usize> {
        let value = records[0].value.clone().unwrap();
        if value == "refused" {
            return Err(BackendError::Refused("it is too large".into()));
        }
        self.taken.lock().unwrap().push(value);
        Ok(1)
    }

    fn take_acks(&self, acks: &mut Vec<Ack>) {
        acks.append(&mut self.acks.lock().unwrap());
    }

    async fn changed(&self) {}

    fn in_flight(&self) -> usize {
        self.taken.lock().unwrap().len()
    }

    async fn flush(&self, _timeout: Duration) -> backend::Result<()> {
        for (sequence, value) in self.taken.lock().unwrap().drain(..).enumerate() {
            match value == "lost" {
                true => {
                    let (sequence, error) = (sequence as u64, BackendError::Retriable("it is lost".into()));
                    self.acks.lock().unwrap().push(Ack::Failed { sequence, error });
                }
                false => self.stored.lock().unwrap().push(value),
            }
        }
        Ok(())
    }

    fn purge(&self) {}

    fn revoke(&self) {}
}

/// What is said to be wrong, and what is stored all the same.
async fn produced(input: &str) -> (String, Vec<Bytes>) {
    let writer = Lazy::default();
    let error = produce(&writer, "topic", &mut input.as_bytes()).await.unwrap_err();
    (format!("{error:#}"), writer.stored.into_inner().unwrap())
}

#[tokio::test]
async fn a_refused_line_is_named_and_those_before_it_are_stored() {
    let (error, stored) = produced("one\ntwo\nrefused\nfour\n").await;
    assert_eq!(error, "line 3 was not stored: it is too large");
    assert_eq!(stored, ["one", "two"]);
}

#[tokio::test]
async fn the_first_line_that_is_not_stored_is_named() {
    let (error, stored) = produced("one\nlost\nthree\nlost\nrefused\n").await;
    assert_eq!(error, "line 2 was not stored: it is lost");
    assert_eq!(stored, ["one", "three"]);
}
