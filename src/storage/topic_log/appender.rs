//! The future that makes appends of many callers out of one writer's batches and acknowledgements.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::{LogSettings, Shared};
use crate::backend::{Ack, Backend, BackendError, ProducerRecord, RecordWriter};

/// Appends that are under way at once; further ones wait in the queue.
const OPEN_APPENDS: usize = 256;

type Answer = Result<Vec<(i32, i64)>, BackendError>;

/// One append.
pub(super) struct AppendRequest {
    records: Vec<ProducerRecord>,
    /// How many of `records` the writer has taken.
    sent: usize,
    /// By record; filled by acknowledgements.
    stored: Vec<Option<(i32, i64)>>,
    unanswered: usize,
    error: Option<BackendError>,
    reply: oneshot::Sender<Answer>,
}

impl AppendRequest {
    pub(super) fn new(records: Vec<ProducerRecord>, reply: oneshot::Sender<Answer>) -> Self {
        let count = records.len();
        AppendRequest { records, sent: 0, stored: vec![None; count], unanswered: count, error: None, reply }
    }

    /// Nothing behind a record that was refused is sent.
    fn refuse_rest(&mut self, error: BackendError) {
        self.unanswered -= self.records.len() - self.sent;
        self.records.truncate(self.sent);
        self.error.get_or_insert(error);
    }

    fn is_sent(&self) -> bool {
        self.sent == self.records.len()
    }

    fn answer(self) {
        let answer = match self.error {
            Some(error) => Err(error),
            None => Ok(self.stored.into_iter().flatten().collect()),
        };
        // The caller may have given up.
        _ = self.reply.send(answer);
    }
}

/// Runs until the queue is closed.
pub(super) struct Appender {
    backend: Arc<dyn Backend>,
    settings: LogSettings,
    shared: Arc<Shared>,
    writer: Arc<dyn RecordWriter>,
    queue: mpsc::Receiver<AppendRequest>,
    /// Under way, by number in order of arrival.
    open: BTreeMap<u64, AppendRequest>,
    /// Those not wholly sent, in order.
    unsent: VecDeque<u64>,
    next_request: u64,
    /// Sequence of a record -> request and place in it.
    in_flight: BTreeMap<u64, (u64, usize)>,
    next_sequence: u64,
    acks: Vec<Ack>,
}

impl Appender {
    pub(super) fn open(
        backend: Arc<dyn Backend>,
        settings: LogSettings,
        shared: Arc<Shared>,
        queue: mpsc::Receiver<AppendRequest>,
    ) -> Result<Self, BackendError> {
        let writer = backend.writer(&settings.writer, settings.writer_max_bytes)?;
        Ok(Appender {
            backend,
            settings,
            shared,
            writer,
            queue,
            open: BTreeMap::new(),
            unsent: VecDeque::new(),
            next_request: 0,
            in_flight: BTreeMap::new(),
            next_sequence: 0,
            acks: Vec::new(),
        })
    }

    pub(super) async fn run(mut self) {
        loop {
            let writer = self.writer.clone();
            tokio::select! {
                request = self.queue.recv(), if self.open.len() < OPEN_APPENDS => match request {
                    Some(request) => self.take(request),
                    None => return,
                },
                () = writer.changed(), if !self.open.is_empty() => {}
            }
            self.take_acks();
            self.send();
        }
    }

    fn take(&mut self, request: AppendRequest) {
        self.open.insert(self.next_request, request);
        self.unsent.push_back(self.next_request);
        self.next_request += 1;
    }

    fn send(&mut self) {
        while let Some(&number) = self.unsent.front() {
            let Some(request) = self.open.get_mut(&number) else {
                self.unsent.pop_front();
                continue;
            };
            match self.writer.send(&request.records[request.sent..]) {
                Ok(0) if self.in_flight.is_empty() => {
                    // Not even an empty queue has room for it.
                    request.refuse_rest(BackendError::Refused("a record is larger than the writer's bound".into()));
                }
                Ok(0) => return,
                Ok(taken) => {
                    for place in request.sent..request.sent + taken {
                        self.in_flight.insert(self.next_sequence, (number, place));
                        self.next_sequence += 1;
                    }
                    request.sent += taken;
                }
                Err(error) => {
                    let broken = is_broken(&error);
                    request.refuse_rest(error.clone());
                    if broken {
                        // Fails at least this request, so that the loop ends.
                        self.replace_writer(&error);
                    }
                }
            }
            if self.open.get(&number).is_none_or(AppendRequest::is_sent) {
                self.unsent.pop_front();
                self.answer_if_done(number);
            }
        }
    }

    fn take_acks(&mut self) {
        let mut acks = std::mem::take(&mut self.acks);
        self.writer.take_acks(&mut acks);
        let mut broken = None;
        for ack in acks.drain(..) {
            match ack {
                Ack::Delivered { first, count, partition, offset } => {
                    for (sequence, offset) in (first..first.saturating_add(count)).zip(offset..) {
                        self.settle(sequence, Ok((partition, offset)));
                    }
                }
                Ack::Failed { sequence, error } => {
                    if is_broken(&error) {
                        broken = Some(error.clone());
                    }
                    self.settle(sequence, Err(error));
                }
            }
        }
        self.acks = acks;
        if let Some(error) = broken {
            self.replace_writer(&error);
        }
    }

    fn settle(&mut self, sequence: u64, outcome: Result<(i32, i64), BackendError>) {
        let Some((number, place)) = self.in_flight.remove(&sequence) else { return };
        let Some(request) = self.open.get_mut(&number) else { return };
        request.unanswered -= 1;
        match outcome {
            Ok(stored) => request.stored[place] = Some(stored),
            Err(error) => _ = request.error.get_or_insert(error),
        }
        self.answer_if_done(number);
    }

    fn answer_if_done(&mut self, number: u64) {
        if self.open.get(&number).is_some_and(|request| request.unanswered == 0)
            && let Some(request) = self.open.remove(&number)
        {
            request.answer();
        }
    }

    /// Fails what the broken writer holds, or everything where no new one can be opened. What the broken one has not taken goes to the new one.
    fn replace_writer(&mut self, error: &BackendError) {
        tracing::warn!(topic = %self.shared.topic, %error, "the writer is replaced");
        self.writer.revoke();
        self.in_flight.clear();
        self.next_sequence = 0;
        let opened = self.backend.writer(&self.settings.writer, self.settings.writer_max_bytes);
        let lost = |request: &AppendRequest| opened.is_err() || request.sent > 0 || request.error.is_some();
        for (_, mut request) in self.open.extract_if(.., |_, request| lost(request)) {
            request.error.get_or_insert(error.clone());
            request.answer();
        }
        match opened {
            Ok(writer) => self.writer = writer,
            Err(error) => tracing::error!(topic = %self.shared.topic, %error, "a new writer could not be opened"),
        }
    }
}

/// Whether the writer is of no use any more.
fn is_broken(error: &BackendError) -> bool {
    matches!(error, BackendError::Fatal(_) | BackendError::Revoked | BackendError::Fenced(_))
}
