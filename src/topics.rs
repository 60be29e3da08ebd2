//! `connect-node topics`: a look into topics, as with Kafka's console tools; for a directory of `embedded:` the only way to look.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;

use crate::backend::{
    self, Ack, Backend, ClientSettings, Isolation, ProducerRecord, ReadBatch, RecordWriter, StartOffset, TopicPartition,
};

/// Records of one read.
const BATCH: usize = 1000;
/// Bytes of records that are sent and not acknowledged.
const MAX_BYTES: usize = 16 << 20;
/// Bytes that a line may have: more than any record of `message.max.bytes`.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a topic that is followed: how long one read waits.
const READ_WAIT: Duration = Duration::from_secs(1);

/// Options of all of them.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Where the topics are: embedded:DIR, which no worker may hold at the same time, or Kafka's HOST:PORT.
    #[arg(long, global = true, value_name = "SERVERS", default_value = "embedded:connect-node-quickstart/data")]
    pub bootstrap_servers: String,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Lists topics with their partitions.
    Ls,
    /// Writes the values of committed records, one on a line.
    Tail {
        /// The topic.
        topic: String,
        /// Begin with the oldest record, not behind the newest one.
        #[arg(long)]
        from_beginning: bool,
        /// Write key and value, with a tab between them.
        #[arg(long)]
        keys: bool,
        /// End where the topic ends at the beginning of this, instead of waiting for more. A directory is always read so: nobody can write to it
        /// meanwhile.
        #[arg(long)]
        once: bool,
    },
    /// Sends each line of the standard input as a record without a key.
    Produce {
        /// The topic; it is made where it is missing.
        topic: String,
    },
}

impl Arguments {
    /// Who only looks makes no store.
    pub fn check(&self) -> Result<()> {
        let servers = &self.bootstrap_servers;
        ensure!(
            matches!(self.command, Command::Produce { .. }) || backend::exists(servers),
            "there is no store at {servers}; that of a quickstart is in `data` below the directory of the quickstart"
        );
        Ok(())
    }
}

/// Runs one of them to its end, on the backend of its `bootstrap_servers`.
pub fn run(backend: Arc<dyn Backend>, arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        match &arguments.command {
            Command::Ls => {
                for (name, partitions) in backend.admin().list_topics().await? {
                    writeln!(io::stdout(), "{name}\t{partitions}")?;
                }
                Ok(())
            }
            Command::Tail { topic, from_beginning, keys, once } => {
                let start = if *from_beginning { StartOffset::Beginning } else { StartOffset::End };
                tail(&backend, topic, start, *keys, *once || ends_by_itself(&arguments.bootstrap_servers)?).await
            }
            Command::Produce { topic } => {
                let writer = backend.writer(&ClientSettings::new(), MAX_BYTES)?;
                produce(&*writer, topic, &mut io::stdin().lock()).await
            }
        }
    });
    match outcome {
        // Who reads the output has enough, as `head`.
        Err(error) if is_broken_pipe(&error) => Ok(()),
        outcome => outcome,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Who follows a topic of a directory would wait for what nobody else can write as long as this holds the directory, and would keep the
/// worker away that is to write it.
fn ends_by_itself(servers: &str) -> Result<bool> {
    let is_alone = backend::is_of_one_process(servers);
    if is_alone {
        writeln!(
            io::stderr(),
            "nobody can write to {servers} while this reads it: it ends where the topic ends, as with --once"
        )?;
    }
    Ok(is_alone)
}

async fn tail(backend: &Arc<dyn Backend>, topic: &str, start: StartOffset, keys: bool, once: bool) -> Result<()> {
    let described = backend.admin().describe_topic(topic).await?;
    let partitions = described.with_context(|| format!("there is no topic {topic}"))?.partitions;
    let assigned: Vec<_> = (0..partitions).map(|partition| (TopicPartition::new(topic, partition), start)).collect();
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted)?;
    reader.assign(&assigned)?;
    // As of now: a topic that is written to has no end that stays.
    let partitions: Vec<TopicPartition> = assigned.into_iter().map(|(partition, _)| partition).collect();
    let ends = reader.end_offsets(&partitions, PATIENCE).await?;
    let mut left: BTreeMap<TopicPartition, i64> = partitions.into_iter().zip(ends).collect();
    let mut batch = ReadBatch::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        reader.read(&mut batch, BATCH, READ_WAIT).await?;
        for record in &batch.records {
            if keys {
                out.write_all(record.key.as_deref().unwrap_or(b"null"))?;
                out.write_all(b"\t")?;
            }
            out.write_all(record.value.as_deref().unwrap_or(b"null"))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        left.retain(|partition, end| {
            let at_end = batch.ends.iter().any(|(ended, _)| ended == partition);
            !at_end && reader.position(partition).is_none_or(|position| position < *end)
        });
        if once && left.is_empty() {
            return Ok(());
        }
    }
}

async fn produce(writer: &dyn RecordWriter, topic: &str, input: &mut impl BufRead) -> Result<()> {
    let mut acks = Vec::new();
    let sent = send_lines(writer, topic, input, &mut acks).await;
    // What was taken is stored, also where a line behind it is not.
    let flushed = writer.flush(PATIENCE).await;
    take_acks(writer, &mut acks).and(sent)?;
    Ok(flushed?)
}

/// Sends lines until there are no more, or it is known of one that it cannot be stored.
async fn send_lines(
    writer: &dyn RecordWriter,
    topic: &str,
    input: &mut impl BufRead,
    acks: &mut Vec<Ack>,
) -> Result<()> {
    for number in 1u64.. {
        let not_stored = || format!("line {number} was not stored");
        let Some(line) = read_line(input).with_context(not_stored)? else { break };
        let record = ProducerRecord { key: None, ..ProducerRecord::keyed(topic.to_owned(), "", Some(line)) };
        while writer.send(std::slice::from_ref(&record)).with_context(not_stored)? == 0 {
            writer.changed().await;
            take_acks(writer, acks)?;
        }
    }
    Ok(())
}

/// Keeps those of failures, and says which line is the first of them.
fn take_acks(writer: &dyn RecordWriter, acks: &mut Vec<Ack>) -> Result<()> {
    writer.take_acks(acks);
    acks.retain(|ack| matches!(ack, Ack::Failed { .. }));
    let failed = acks.iter().filter_map(|ack| match ack {
        Ack::Failed { sequence, error } => Some((sequence, error)),
        Ack::Delivered { .. } => None,
    });
    match failed.min_by_key(|(sequence, _)| **sequence) {
        Some((sequence, error)) => bail!("line {} was not stored: {error}", sequence + 1),
        None => Ok(()),
    }
}

/// The next line without its end; `None` where there is none.
fn read_line(input: &mut impl BufRead) -> Result<Option<Bytes>> {
    let mut line = Vec::new();
    if input.take(MAX_LINE_BYTES).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    match line.pop_if(|last| *last == b'\n') {
        None if line.len() as u64 == MAX_LINE_BYTES => bail!("a line has more than {MAX_LINE_BYTES} bytes"),
        _ => Ok(Some(Bytes::from(line))),
    }
}

#[cfg(test)]
mod tests;
