//! The names: one row for each metric.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use prometheus::proto::MetricType;
use prometheus::proto::MetricType::{COUNTER, GAUGE};

use super::TaskKind::{self, Sink, Source};
use super::{TaskMetrics, WorkerMetrics};

/// A metric with the labels `connector` and `task`.
pub(super) struct TaskSeries {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    /// Tasks that have it; `None` = all.
    pub(super) of: Option<TaskKind>,
    pub(super) value: fn(&TaskMetrics) -> u64,
}

/// A metric without labels. Its value depends on the worker, the number of its tasks and the time; `None` leaves it
/// out.
pub(super) struct WorkerSeries {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: MetricType,
    pub(super) value: fn(&WorkerMetrics, usize, Instant) -> Option<u64>,
}

/// Name and help; label `outcome`.
pub(super) const GOSSIP_DATAGRAMS: (&str, &str) = (
    "kafka_connect_worker_gossip_datagrams_total",
    "Datagrams and messages of gossip by what became of them. All but received, sent and silenced stand still in a healthy network.",
);

/// Name and help; labels `connector` and `state`.
pub(super) const CONNECTOR_TASKS: (&str, &str) =
    ("kafka_connect_worker_connector_task_count", "Tasks of the connector on this worker by state.");

/// Name and help; labels `connector` and `phase`.
pub(super) const AUTOMATIC_RESTARTS: (&str, &str) = (
    "kafka_connect_worker_connector_automatic_restart_total",
    "Starts of the connector or a task of it by restart.policy on this worker, by what had failed.",
);

/// Name and help; label `connector`.
pub(super) const RESTARTS_WAITING: (&str, &str) = (
    "kafka_connect_worker_connector_restart_waiting_count",
    "Failed units of the connector that restart.policy will start again on this worker.",
);

/// Name and help; label `connector`.
pub(super) const OPEN_BREAKERS: (&str, &str) = (
    "kafka_connect_worker_connector_restart_breaker_open_count",
    "Failed units of the connector that failed too often to be started again by restart.policy on this worker.",
);

/// Name and help; labels `connector`, `task` and `status`.
pub(super) const TASK_STATUS: (&str, &str) =
    ("kafka_connect_connector_task_status", "1 for the present status of the task.");

/// kind, tasks that have it, name after `kafka_connect_`, field of [`TaskMetrics`], help
macro_rules! task_series {
    ($($kind:ident $of:expr, $name:literal, $field:ident, $help:literal;)+) => {
        &[$(TaskSeries {
            name: concat!("kafka_connect_", $name),
            help: $help,
            kind: $kind,
            of: $of,
            value: |task| task.$field.load(Relaxed),
        }),+]
    };
}

pub(super) const TASK_SERIES: &[TaskSeries] = task_series! {
    COUNTER Some(Source), "source_task_source_record_poll_total", records_read,
        "Records that the task polled.";
    COUNTER Some(Source), "source_task_source_record_write_total", records_written,
        "Records that Kafka acknowledged.";
    COUNTER Some(Source), "source_task_source_record_write_bytes_total", bytes_written,
        "Bytes of keys and values that Kafka acknowledged.";
    GAUGE Some(Source), "source_task_source_record_active_count", records_active,
        "Records polled and not yet acknowledged.";
    COUNTER Some(Sink), "sink_task_sink_record_read_total", records_read,
        "Records consumed from Kafka.";
    COUNTER Some(Sink), "sink_task_sink_record_read_bytes_total", bytes_read,
        "Bytes of keys and values consumed from Kafka.";
    COUNTER Some(Sink), "sink_task_sink_record_send_total", records_written,
        "Records that the task put.";
    GAUGE Some(Sink), "sink_task_sink_record_active_count", records_active,
        "Records consumed and not yet covered by a commit.";
    COUNTER None, "connector_task_offset_commit_success_total", offset_commits_succeeded,
        "Offset commits that succeeded.";
    COUNTER None, "connector_task_offset_commit_failure_total", offset_commits_failed,
        "Offset commits that failed or ran out of time.";
    GAUGE None, "connector_task_offset_commit_last_time_ms", offset_commit_last_ms,
        "Duration of the last offset commit in ms.";
    COUNTER None, "task_error_record_errors_total", record_errors,
        "Attempts at one step of one record that failed.";
    COUNTER None, "task_error_record_failures_total", record_failures,
        "Records whose processing failed for good.";
    COUNTER None, "task_error_records_skipped_total", records_skipped,
        "Records left out because errors are tolerated.";
    COUNTER None, "task_error_retries_total", retries,
        "Attempts that were made again.";
    COUNTER None, "task_error_deadletterqueue_produce_requests_total", dead_letter_requests,
        "Records sent to the dead letter queue.";
    COUNTER None, "task_error_deadletterqueue_produce_failures_total", dead_letter_failures,
        "Records that the dead letter queue did not take.";
    GAUGE None, "task_error_last_error_timestamp_ms", last_error_ms,
        "Time of the last error in ms since 1970; 0 = none yet.";
};

/// kind, name after `kafka_connect_worker_`, value, help
macro_rules! worker_series {
    ($($kind:ident $name:literal, $value:expr, $help:literal;)+) => {
        &[$(WorkerSeries { name: concat!("kafka_connect_worker_", $name), help: $help, kind: $kind, value: $value }),+]
    };
}

pub(super) const WORKER_SERIES: &[WorkerSeries] = worker_series! {
    GAUGE "connector_count", |w, _, _| Some(w.connectors.load(Relaxed)),
        "Connectors that run on this worker.";
    GAUGE "task_count", |_, tasks, _| Some(tasks as u64),
        "Tasks that run on this worker.";
    COUNTER "connector_startup_attempts_total", |w, _, _| Some(w.connector_starts.attempts.load(Relaxed)),
        "Attempts to start a connector.";
    COUNTER "connector_startup_failure_total", |w, _, _| Some(w.connector_starts.failures.load(Relaxed)),
        "Attempts to start a connector that failed.";
    COUNTER "task_startup_attempts_total", |w, _, _| Some(w.task_starts.attempts.load(Relaxed)),
        "Attempts to start a task.";
    COUNTER "task_startup_failure_total", |w, _, _| Some(w.task_starts.failures.load(Relaxed)),
        "Attempts to start a task that failed.";
    COUNTER "connector_restart_total", |w, _, _| Some(w.connector_starts.restarts.load(Relaxed)),
        "Connectors that were started again.";
    COUNTER "task_restart_total", |w, _, _| Some(w.task_starts.restarts.load(Relaxed)),
        "Tasks that were started again.";
    GAUGE "suspended", |w, _, _| Some(u64::from(w.suspended.load(Relaxed))),
        "1 while the worker has no lease and its tasks are suspended.";
    GAUGE "lease_age_ms", |w, _, now| w.lease_age_ms(now),
        "Time since the lease was renewed in ms; absent before the first lease.";
    GAUGE "herder_queue_length", |w, _, _| Some(w.herder_queue_length.load(Relaxed)),
        "Requests that wait for the herder.";
};
