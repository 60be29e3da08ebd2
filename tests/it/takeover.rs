//! The same internal topics under Kafka's own worker and under connect-node, in turn: what each reads of what the other wrote.
//!
//! A1 to A14 in names and messages: connect-node reads what Java wrote. B1 to B6: Java reads what connect-node wrote.
//!
//! * A1, A2: same connectors, configurations, types and tasks. A3: same target states. A4: same source offsets.
//! * A5: a mere start changes nothing in the config topic, but for `worker-*` records. A6, A7: sources and sinks go on.
//! * A8: no second key for an offset. A9: every record in the partition of its key. A10: statuses are ours, left-over ones go.
//! * A11: what was deleted stays so. A12: old requests do not act. A13: bad records cost nothing but themselves.
//! * A14: what was aborted is not read.
//! * B1: Java's stores do not complain, but for one line for each `worker-*` record. B2 to B4: A1 to A7 the other way round.
//!   B5: pause, resume, stop, restart and delete through Java. B6: and back again.

mod crash;
mod exactly_once;
mod guide;
mod recorded;
mod round_trip;
mod topics;
mod view;

use std::time::{Duration, Instant};

use crate::support::process::Worker;

/// Longer than connect-node ever needs: a rebalance of Java workers on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Says how long a part of a test took.
struct Phase(&'static str, Instant);

fn phase(name: &'static str) -> Phase {
    Phase(name, Instant::now())
}

impl Drop for Phase {
    fn drop(&mut self) {
        println!("{}: {:.1} s", self.0, self.1.elapsed().as_secs_f64());
    }
}

/// Another connect-node of the same cluster, not started.
fn beside(worker: &Worker) -> Worker {
    let names = ["group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic"];
    let settings = names.map(|name| (name, worker.setting(name)));
    let settings: Vec<_> = settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Worker::new(&worker.setting("bootstrap.servers"), &settings)
}
