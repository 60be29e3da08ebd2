//! The embedded backend alone: how fast records of 100 bytes are appended with acknowledgements after fsync, and read back.
//!
//!     cargo run --release --example bench_embedded -- DIR [records] [append|read|tail|all]
//!
//! `append` writes through the writer handle, `read` reads all of it from the beginning, `tail` reads while it is written. Prints records per second, CPU
//! seconds of the process per million, the peak of its memory and the size of the directory. With `kill` behind `append` the process ends
//! without closing, and the next `read` says how long the store takes to open.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use connect_node::backend::{
    Ack, Backend, ClientSettings, Isolation, NewTopic, ProducerRecord, ReadBatch, StartOffset, TopicPartition, embedded,
};

const TOPIC: &str = "bench";
const RECORD_BYTES: usize = 100;
/// Records of one `send`, as a task's pump has them.
const BATCH: usize = 1000;
/// Bytes of a handle.
const MAX_BYTES: usize = 16 << 20;
const PATIENCE: Duration = Duration::from_secs(60);
/// Ticks of /proc/self/stat, on every Linux that we know.
const TICKS_PER_SECOND: f64 = 100.0;

fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name in parentheses may contain spaces; user and system time are the 12th and 13th field behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

fn peak_megabytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or_default() / 1024
}

fn directory_megabytes(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.blocks() * 512).sum::<u64>() / 1_000_000
}

fn report(what: &str, records: usize, begun: Instant, cpu: f64, path: &Path) {
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    println!(
        "{what:<8} {:>9.0} records/s   {:.2} CPU-s per million   peak {} MB   directory {} MB",
        records as f64 / seconds,
        cpu * 1e6 / records as f64,
        peak_megabytes(),
        directory_megabytes(path),
    );
}

async fn append(backend: &dyn Backend, records: usize) -> Result<()> {
    let writer = backend.writer(&ClientSettings::new(), MAX_BYTES)?;
    let line = Bytes::from(vec![b'x'; RECORD_BYTES]);
    let record = ProducerRecord { key: None, ..ProducerRecord::keyed(TOPIC, "", Some(line)) };
    let batch = vec![record; BATCH];
    let (mut acks, mut sent, mut acked) = (Vec::new(), 0, 0);
    while acked < records {
        let rest = batch.len().min(records - sent);
        let taken = writer.send(&batch[..rest])?;
        sent += taken;
        if taken < rest || sent == records {
            writer.changed().await;
        }
        writer.take_acks(&mut acks);
        for ack in acks.drain(..) {
            match ack {
                Ack::Delivered { count, .. } => acked += count as usize,
                Ack::Failed { error, .. } => return Err(error).context("an append"),
            }
        }
    }
    Ok(())
}

async fn read(backend: &dyn Backend, records: usize) -> Result<()> {
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted)?;
    reader.assign(&[(TopicPartition::new(TOPIC, 0), StartOffset::Beginning)])?;
    let (mut batch, mut count) = (ReadBatch::default(), 0);
    while count < records {
        reader.read(&mut batch, BATCH, PATIENCE).await?;
        count += batch.records.len();
    }
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("usage: bench_embedded DIR [RECORDS] [append|read|tail|all] [kill]")?;
    let path = Path::new(&path);
    let records: usize = arguments.next().map_or(Ok(2_000_000), |text| text.parse()).context("RECORDS")?;
    let what = arguments.next().unwrap_or_else(|| "all".into());
    let kill = arguments.next().is_some();
    let begun = Instant::now();
    let backend = embedded::open(path)?;
    println!("opened in {} ms", begun.elapsed().as_millis());
    if what != "read" {
        backend.admin().delete_topic(TOPIC).await?;
        let config = std::collections::BTreeMap::new();
        let topic = NewTopic { name: TOPIC.into(), partitions: 1, replication_factor: 1, config };
        backend.admin().create_topic(&topic).await?;
    }
    let (begun, cpu) = (Instant::now(), cpu_seconds());
    match &*what {
        "append" | "all" => append(&*backend, records).await?,
        "read" => read(&*backend, records).await?,
        "tail" => drop(tokio::try_join!(append(&*backend, records), read(&*backend, records))?),
        other => bail!("{other}: append, read, tail or all"),
    }
    report(if what == "all" { "append" } else { &what }, records, begun, cpu, path);
    if what == "all" {
        let (begun, cpu) = (Instant::now(), cpu_seconds());
        read(&*backend, records).await?;
        report("read", records, begun, cpu, path);
    }
    if kill {
        std::process::abort();
    }
    Ok(())
}
