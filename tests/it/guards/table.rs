//! The guards, by room from the records up to REST.

use super::Guard;

pub(super) const GUARDS: &[Guard] = &[
    Guard {
        name: "a source offset waits for every record in front of it",
        file: "src/pipeline/submitted_records.rs",
        guard: "while let Some((true, _)) = partition.window.front() {",
        removed: "while !partition.window.is_empty() {",
        test: "pipeline::submitted_records::tests::only_the_acknowledged_prefix_counts",
    },
    Guard {
        name: "a checked write is checked against everything in front of it",
        file: "src/storage/topic_log/transactions.rs",
        guard: "if let Err(error) = self.read_to_end(remaining(deadline)).await {",
        removed: "if let Err(error) = Ok::<(), LogError>(()) {",
        test: "storage::tests::config::a_worker_that_lags_reads_to_the_end_before_it_checks",
    },
    Guard {
        name: "a log that lost records is reported",
        file: "src/cluster/lease.rs",
        guard: "if end < position {",
        removed: "if false {",
        test: "cluster::lease::tests::an_end_below_what_was_read_before_the_question_is_a_lost_log",
    },
];
