use super::*;

fn render(metrics: &Metrics) -> Vec<String> {
    metrics.render().unwrap().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

fn has(metrics: &Metrics, line: &str) -> bool {
    render(metrics).iter().any(|found| found == line)
}

#[test]
fn tasks_appear_under_the_names_of_their_kind() {
    let metrics = Metrics::new();
    let source = metrics.register_task("orders", 0, TaskKind::Source);
    let sink = metrics.register_task("a\"b\\", 3, TaskKind::Sink);
    source.read(5, 0);
    source.written(3, 300);
    source.records_active.store(2, Relaxed);
    sink.read(7, 70);
    sink.written(6, 0);
    source.offset_commit(true, Duration::from_millis(12));
    source.offset_commit(false, Duration::from_millis(34));
    for line in [
        r#"kafka_connect_source_task_source_record_poll_total{connector="orders",task="0"} 5"#,
        r#"kafka_connect_source_task_source_record_write_total{connector="orders",task="0"} 3"#,
        r#"kafka_connect_source_task_source_record_write_bytes_total{connector="orders",task="0"} 300"#,
        r#"kafka_connect_source_task_source_record_active_count{connector="orders",task="0"} 2"#,
        r#"kafka_connect_connector_task_offset_commit_success_total{connector="orders",task="0"} 1"#,
        r#"kafka_connect_connector_task_offset_commit_failure_total{connector="orders",task="0"} 1"#,
        r#"kafka_connect_connector_task_offset_commit_last_time_ms{connector="orders",task="0"} 34"#,
        r#"kafka_connect_sink_task_sink_record_read_total{connector="a\"b\\",task="3"} 7"#,
        r#"kafka_connect_sink_task_sink_record_read_bytes_total{connector="a\"b\\",task="3"} 70"#,
        r#"kafka_connect_sink_task_sink_record_send_total{connector="a\"b\\",task="3"} 6"#,
    ] {
        assert!(has(&metrics, line), "{line} is not in {:#?}", render(&metrics));
    }
    assert!(!render(&metrics).iter().any(|line| line.starts_with("kafka_connect_sink") && line.contains("orders")));
    assert!(!render(&metrics).iter().any(|line| line.starts_with("kafka_connect_source") && line.contains("a\\")));
}

#[test]
fn states_are_counted_by_connector() {
    let metrics = Metrics::new();
    let tasks: Vec<_> = (0..3).map(|task| metrics.register_task("c", task, TaskKind::Sink)).collect();
    tasks[0].set_state(TaskState::Running);
    tasks[1].set_state(TaskState::Running);
    tasks[2].set_state(TaskState::Failed);
    let count = |state, n| {
        has(&metrics, &format!(r#"kafka_connect_worker_connector_task_count{{connector="c",state="{state}"}} {n}"#))
    };
    assert!(count("running", 2) && count("failed", 1) && count("paused", 0) && count("suspended", 0));
    assert!(has(&metrics, r#"kafka_connect_connector_task_status{connector="c",task="2",status="failed"} 1"#));
    assert!(has(&metrics, "kafka_connect_worker_task_count 3"));
    for state in TaskState::ALL {
        tasks[0].set_state(state);
        assert_eq!(tasks[0].state(), state);
    }
}

#[test]
fn series_end_with_their_task_and_not_with_its_predecessor() {
    let metrics = Metrics::new();
    let first = metrics.register_task("c", 0, TaskKind::Source);
    let second = metrics.register_task("c", 0, TaskKind::Source);
    second.read(1, 0);
    let counted_late = first.metrics();
    drop(first);
    counted_late.read(100, 0);
    let line = r#"kafka_connect_source_task_source_record_poll_total{connector="c",task="0"} 1"#;
    assert!(has(&metrics, line));
    drop(second);
    assert!(!render(&metrics).iter().any(|line| line.contains("connector=\"c\"")));
    assert!(has(&metrics, "kafka_connect_worker_task_count 0"));
}

#[test]
fn lease_age_grows_by_itself_and_is_absent_at_first() {
    let worker = WorkerMetrics::new();
    let at = |ms| worker.lease_age_ms(worker.born + Duration::from_millis(ms));
    assert_eq!(at(5), None);
    worker.lease_renewed.store(1 + 1000, Relaxed);
    assert_eq!((at(1000), at(1750), at(0)), (Some(0), Some(750), Some(0)));
    worker.lease_renewed();
    assert!(worker.lease_age_ms(Instant::now()).is_some_and(|ms| ms < 60_000));
    assert!(!render(&Metrics::new()).iter().any(|line| line.contains("lease_age")));
}

#[test]
fn names_are_unique_and_counters_end_in_total() {
    let metrics = Metrics::new();
    let _source = metrics.register_task("c", 0, TaskKind::Source);
    let _sink = metrics.register_task("d", 0, TaskKind::Sink);
    metrics.worker().lease_renewed();
    let families = metrics.registry().gather();
    assert_eq!(families.len(), WORKER_SERIES.len() + TASK_SERIES.len() + 2);
    for family in families {
        assert_eq!(
            family.name().ends_with("_total"),
            family.get_field_type() == MetricType::COUNTER,
            "{}",
            family.name()
        );
        assert!(family.help().ends_with('.'), "{}", family.name());
    }
}

#[test]
fn restarts_by_policy_are_counted_by_connector_and_end_with_it() {
    let metrics = Metrics::new();
    let automatic = || {
        render(&metrics)
            .into_iter()
            .filter(|line| line.contains("_restart_w") || line.contains("automatic") || line.contains("breaker"))
            .collect::<Vec<_>>()
    };
    metrics.set_restarts("c", Some(UnitsByRestart::default()));
    assert!(automatic().is_empty(), "nothing has failed");
    metrics.set_restarts("c", Some(UnitsByRestart { waiting: 2, open: 1 }));
    metrics.restarted("c", "poll");
    metrics.restarted("c", "poll");
    metrics.restarted("c", "start");
    let expected = [
        r#"kafka_connect_worker_connector_automatic_restart_total{connector="c",phase="poll"} 2"#,
        r#"kafka_connect_worker_connector_automatic_restart_total{connector="c",phase="start"} 1"#,
        r#"kafka_connect_worker_connector_restart_breaker_open_count{connector="c"} 1"#,
        r#"kafka_connect_worker_connector_restart_waiting_count{connector="c"} 2"#,
    ];
    assert_eq!(automatic(), expected);
    metrics.set_restarts("c", Some(UnitsByRestart::default()));
    assert!(has(&metrics, r#"kafka_connect_worker_connector_restart_waiting_count{connector="c"} 0"#));
    metrics.set_restarts("c", None);
    assert!(automatic().is_empty());
}
