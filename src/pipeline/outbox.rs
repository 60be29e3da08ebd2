//! Records between conversion and acknowledgement: kept until Kafka has them, and sent again in order when the client gave
//! them back.
//!
//! A client gives records back when its queue was purged (no lease, or another task of the same client was suspended) and
//! when it broke for good. Neither fails the task. The outbox then sends nothing new until the client has answered for
//! everything that it took, and starts again from the first record that is not acknowledged: order is kept, and what was
//! on the wire may be duplicated.

use std::collections::VecDeque;

use connect_api::RecordMetadata;

use super::submitted_records::Ticket;
use crate::backend::{Ack, BackendError, ProducerRecord, RecordWriter};

/// Records of one task that may be under way at once. The writer bounds their bytes; each one also costs some hundred bytes of
/// bookkeeping here and in the client, which small records would add up to many times their own size.
const UNDER_WAY_MAX: usize = 16_384;

#[derive(Debug)]
struct Sent {
    ticket: Ticket,
    acknowledged: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Outbox {
    records: VecDeque<ProducerRecord>,
    tickets: VecDeque<Sent>,
    /// Sequence, with the present writer, of the record in front.
    first_sequence: u64,
    /// How many records from the front on the writer has taken.
    taken: usize,
    /// The writer gave records back: send nothing until it has answered for all that it took.
    settling: bool,
}

/// What the acknowledgements said.
#[derive(Debug, Default)]
pub struct Absorbed {
    /// How many records Kafka has stored.
    pub records: u64,
    /// Bytes of keys, values and headers of these.
    pub bytes: u64,
    /// Records that Kafka refused for good: the task fails.
    pub refused: Option<BackendError>,
    /// The client cannot go on: get a new writer, then call [`Outbox::restart`].
    pub client_lost: bool,
}

impl Outbox {
    /// Adds a record behind all others.
    pub fn push(&mut self, record: ProducerRecord, ticket: Ticket) {
        self.records.push_back(record);
        self.tickets.push_back(Sent { ticket, acknowledged: false });
    }

    /// How many records wait for the writer to take them.
    pub fn waiting(&self) -> usize {
        self.records.len() - self.taken
    }

    /// Whether every record is acknowledged.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Whether the writer gave records back and has not answered for all others yet.
    pub fn is_settling(&self) -> bool {
        self.settling
    }

    /// Hands the writer as many records as it takes.
    pub fn send(&mut self, writer: &dyn RecordWriter) -> Result<(), BackendError> {
        while !self.settling && self.waiting() > 0 && self.taken < UNDER_WAY_MAX {
            let (front, back) = self.records.as_slices();
            let unsent = match front.get(self.taken..) {
                Some(rest) if !rest.is_empty() => rest,
                _ => &back[self.taken - front.len()..],
            };
            let most = unsent.len().min(UNDER_WAY_MAX - self.taken);
            match writer.send(&unsent[..most])? {
                0 => break,
                taken => self.taken += taken,
            }
        }
        Ok(())
    }

    /// Takes in acknowledgements; `acknowledged` is called for each stored record in order.
    pub fn absorb(&mut self, acks: &[Ack], mut acknowledged: impl FnMut(Ticket, RecordMetadata)) -> Absorbed {
        let mut absorbed = Absorbed::default();
        for ack in acks {
            match ack {
                Ack::Delivered { first, count, partition, offset } => {
                    absorbed.records += count;
                    for nth in 0..*count {
                        let index = (first + nth - self.first_sequence) as usize;
                        let sent = &mut self.tickets[index];
                        sent.acknowledged = true;
                        absorbed.bytes += self.records[index].size() as u64;
                        acknowledged(
                            sent.ticket,
                            RecordMetadata { partition: *partition, offset: offset + nth as i64 },
                        );
                    }
                }
                Ack::Failed { error, .. } => match error {
                    BackendError::Purged | BackendError::Retriable(_) => self.settling = true,
                    BackendError::Fatal(_) | BackendError::Fenced(_) | BackendError::OffsetOutOfRange(_) => {
                        self.settling = true;
                        absorbed.client_lost = true;
                    }
                    BackendError::Refused(_)
                    | BackendError::TransactionalIdAuthorization(_)
                    | BackendError::UnknownPartition(_)
                    | BackendError::Revoked => {
                        absorbed.refused.get_or_insert_with(|| error.clone());
                    }
                },
            }
        }
        self.drop_acknowledged_front();
        absorbed
    }

    /// After records came back: once the writer has answered for everything, starts again from the first record that is
    /// not acknowledged. Does nothing before.
    pub fn resume_when_settled(&mut self, in_flight: usize) {
        if self.settling && in_flight == 0 {
            let next_sequence = self.first_sequence + self.taken as u64;
            self.restart(next_sequence);
        }
    }

    /// Everything that is not acknowledged will be sent again, to a writer whose next sequence is `next_sequence`.
    pub fn restart(&mut self, next_sequence: u64) {
        let mut kept = self.tickets.iter().map(|sent| !sent.acknowledged);
        self.records.retain(|_| kept.next().unwrap_or(true));
        self.tickets.retain(|sent| !sent.acknowledged);
        self.first_sequence = next_sequence;
        self.taken = 0;
        self.settling = false;
    }

    fn drop_acknowledged_front(&mut self) {
        let done = self.tickets.iter().take_while(|sent| sent.acknowledged).count();
        self.records.drain(..done);
        self.tickets.drain(..done);
        self.first_sequence += done as u64;
        self.taken -= done;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;
    use crate::backend::Result;

    /// Takes `room` records in all and writes down what it took.
    #[derive(Default)]
    struct Recorder {
        room: Mutex<usize>,
        sent: Mutex<Vec<u8>>,
    }

    #[async_trait::async_trait]
    impl RecordWriter for Recorder {
        fn send(&self, records: &[ProducerRecord]) -> Result<usize> {
            let mut room = self.room.lock().unwrap();
            let taken = records.len().min(*room);
            *room -= taken;
            let values = records[..taken].iter().map(|record| record.value.as_ref().unwrap()[0]);
            self.sent.lock().unwrap().extend(values);
            Ok(taken)
        }
        fn take_acks(&self, _: &mut Vec<Ack>) {}
        async fn changed(&self) {}
        fn in_flight(&self) -> usize {
            0
        }
        async fn flush(&self, _: Duration) -> Result<()> {
            Ok(())
        }
        fn purge(&self) {}
        fn revoke(&self) {}
    }

    fn record(value: u8) -> ProducerRecord {
        ProducerRecord { partition: Some(0), ..ProducerRecord::keyed("t", vec![0], Some(vec![value].into())) }
    }

    fn outbox(values: std::ops::Range<u8>) -> Outbox {
        let mut outbox = Outbox::default();
        for value in values {
            outbox.push(record(value), Ticket { partition: 0, ordinal: value.into() });
        }
        outbox
    }

    fn delivered(first: u64, count: u64) -> Ack {
        Ack::Delivered { first, count, partition: 0, offset: 100 + first as i64 }
    }

    fn failed(sequence: u64, error: BackendError) -> Ack {
        Ack::Failed { sequence, error }
    }

    #[test]
    fn takes_up_where_the_writer_had_no_room() {
        let mut outbox = outbox(0..5);
        let writer = Recorder { room: Mutex::new(2), ..Default::default() };
        outbox.send(&writer).unwrap();
        assert_eq!(outbox.waiting(), 3);
        *writer.room.lock().unwrap() = 9;
        let mut seen = Vec::new();
        outbox.absorb(&[delivered(0, 2)], |ticket, stored| seen.push((ticket.ordinal, stored.offset)));
        assert_eq!(seen, [(0, 100), (1, 101)]);
        outbox.send(&writer).unwrap();
        assert_eq!(*writer.sent.lock().unwrap(), [0, 1, 2, 3, 4]);
        outbox.absorb(&[delivered(2, 3)], |_, _| ());
        assert!(outbox.is_empty());
    }

    #[test]
    fn the_number_of_records_under_way_is_bounded() {
        let mut outbox = Outbox::default();
        for ordinal in 0..=UNDER_WAY_MAX as u64 {
            outbox.push(ProducerRecord::keyed("t", vec![0], Some(vec![1].into())), Ticket { partition: 0, ordinal });
        }
        let writer = Recorder { room: Mutex::new(usize::MAX), ..Default::default() };
        outbox.send(&writer).unwrap();
        assert_eq!(outbox.waiting(), 1);
        outbox.absorb(&[delivered(0, 1)], |_, _| ());
        outbox.send(&writer).unwrap();
        assert_eq!(outbox.waiting(), 0);
    }

    #[test]
    fn purged_records_are_sent_again_in_order_once_the_wire_is_quiet() {
        let mut outbox = outbox(0..5);
        let writer = Recorder { room: Mutex::new(99), ..Default::default() };
        outbox.send(&writer).unwrap();
        // 0 and 1 are on the wire, 2..5 come back.
        outbox.absorb(&[failed(2, BackendError::Purged), failed(3, BackendError::Purged)], |_, _| ());
        outbox.resume_when_settled(3);
        // What is new must not overtake them.
        outbox.push(record(5), Ticket { partition: 0, ordinal: 5 });
        outbox.send(&writer).unwrap();
        assert_eq!(writer.sent.lock().unwrap().len(), 5, "nothing is sent while the client still owes answers");
        outbox.absorb(&[delivered(0, 2), failed(4, BackendError::Purged)], |_, _| ());
        outbox.resume_when_settled(0);
        outbox.send(&writer).unwrap();
        assert_eq!(*writer.sent.lock().unwrap(), [0, 1, 2, 3, 4, 2, 3, 4, 5]);
        let mut seen = Vec::new();
        outbox.absorb(&[delivered(5, 4)], |ticket, _| seen.push(ticket.ordinal));
        assert_eq!(seen, [2, 3, 4, 5]);
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_lost_client_is_no_failure_and_a_refused_record_is() {
        let mut outbox = outbox(0..3);
        let writer = Recorder { room: Mutex::new(99), ..Default::default() };
        outbox.send(&writer).unwrap();
        // Record 1 went to another Kafka partition and is stored, though record 0 is not.
        let absorbed = outbox.absorb(&[delivered(1, 1), failed(0, BackendError::Fatal("epoch".into()))], |_, _| ());
        assert!(absorbed.client_lost && absorbed.refused.is_none());
        outbox.restart(0);
        outbox.send(&writer).unwrap();
        assert_eq!(*writer.sent.lock().unwrap(), [0, 1, 2, 0, 2]);
        let absorbed = outbox.absorb(&[failed(0, BackendError::Refused("too large".into()))], |_, _| ());
        assert!(absorbed.refused.is_some());
    }
}
