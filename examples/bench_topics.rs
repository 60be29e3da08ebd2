//! Topics for bench/many-connectors: makes PREFIX-0 to PREFIX-(COUNT - 1), of one partition each, on brokers or in a directory.
//!
//!     bench_topics (HOST:PORT|embedded:DIR) PREFIX COUNT

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use connect_node::backend::{self, ClientSettings, NewTopic};
use futures_util::{StreamExt, TryStreamExt, stream};

/// Topics that are being made at a time.
const AT_ONCE: usize = 16;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [servers, prefix, count] = &arguments[..] else {
        bail!("usage: bench_topics (HOST:PORT|embedded:DIR) PREFIX COUNT");
    };
    let count: usize = count.parse().context("COUNT is no number")?;
    let backend = backend::open(servers, &ClientSettings::new())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let topic = |number| NewTopic {
        name: format!("{prefix}-{number}"),
        partitions: 1,
        replication_factor: 1,
        config: BTreeMap::new(),
    };
    let create = stream::iter((0..count).map(topic)).map(Ok).try_for_each_concurrent(AT_ONCE, |topic| {
        let admin = backend.admin();
        async move { admin.create_topic(&topic).await.with_context(|| format!("topic {}", topic.name)) }
    });
    runtime.block_on(create)
}
