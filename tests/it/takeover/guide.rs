//! The commands of docs/migration.md, run one after the other as an operator would.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use connect_node::backend::NewTopic;
use tokio::process::Command;

use super::topics::Topics;
use super::{PATIENCE, phase};
use crate::support::java_worker::EitherWorker;
use crate::support::process::binary;
use crate::support::{broker, kafka_lib, unique};

/// What the guide takes for granted: a Java worker that runs, with a source and a sink.
const BEFORE: &str = r#"
set -euo pipefail
trap 'kill -9 $(jobs -p) 2>/dev/null || true' EXIT
connect-distributed.sh "$WORKER" > java.log 2>&1 &
JAVA_PID=$!
until curl -sf "$REST/connectors" > /dev/null; do kill -0 "$JAVA_PID"; sleep 0.2; done
put() { curl -sf -X PUT "$REST/connectors/$1/config" -H 'Content-Type: application/json' -d "$2" > /dev/null; }
put source '{"connector.class":"org.apache.kafka.connect.file.FileStreamSourceConnector","file":"'"$PWD"'/in","topic":"'"$TOPIC"'"}'
put "$NAME" '{"connector.class":"org.apache.kafka.connect.file.FileStreamSinkConnector","file":"'"$PWD"'/out","topics":"'"$TOPIC"'"}'
arrived() { for _ in $(seq 300); do if cmp -s in out; then return; fi; sleep 0.2; done; echo "not arrived: $1" >&2; exit 1; }
echo one >> in; arrived "by Java"
# A moment for the group to have offsets that the tools can show.
sleep 1
"#;

/// In order: what must hold behind the block of this number.
const BEHIND: [(usize, &str); 2] =
    [(5, "echo two >> in; arrived 'by connect-node'"), (6, "echo three >> in; arrived 'by Java again'")];

/// The blocks of a document that a shell can run.
fn blocks(document: &str) -> Vec<String> {
    let parts = document.split("```sh\n").skip(1);
    parts.map(|part| part.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_guide_works_as_it_is_written() {
    let _phase = phase("the guide");
    let document = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/migration.md")).unwrap();
    let blocks = blocks(&document);
    assert!(blocks.len() == 8 && blocks[0].starts_with("WORKER="), "the guide has other blocks now: {blocks:#?}");
    let mut script = BEFORE.to_owned();
    for (number, block) in blocks.iter().enumerate().skip(1) {
        script.push_str(block);
        let behind = BEHIND.iter().filter(|(at, _)| *at == number).map(|(_, check)| format!("{check}\n"));
        script.extend(behind);
    }
    script.push_str("kill -TERM \"$JAVA_PID\"; wait \"$JAVA_PID\" || true\necho finished\n");

    let bootstrap = broker().await.bootstrap();
    let cluster = EitherWorker::new(bootstrap, &[]);
    let (worker, directory) = (&cluster.worker, cluster.worker.directory());
    let topic = unique("guide");
    let new = NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
    Topics::of(worker).backend.admin().create_topic(&new).await.unwrap();
    let lib = kafka_lib::jars().unwrap();
    let java = |class: &str| format!("java -Xmx512m -XX:TieredStopAtLevel=1 -cp '{}/*' {class}", lib.display());
    let bin = directory.join("bin");
    fs::create_dir(&bin).unwrap();
    for (name, command) in [
        ("connect-node", binary()),
        ("connect-distributed.sh", java("org.apache.kafka.connect.cli.ConnectDistributed")),
        ("kafka-consumer-groups.sh", java("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand")),
    ] {
        fs::write(bin.join(name), format!("#!/bin/sh\nexec {command} \"$@\"\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(directory).env("PATH", path).env("TOPIC", &topic);
    command.env("WORKER", worker.properties()).env("REST", worker.url()).env("BROKER", bootstrap);
    command.env("NAME", unique("guide-sink")).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await.expect("the guide comes to its end").unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
    let logs = || format!("{said}\n--- connect-node\n{}\n--- Java\n{}", read("connect-node.log"), read("java.log"));
    assert!(output.status.success() && said.contains("finished"), "{}: {}", output.status, logs());
    assert!(said.contains("checked: ") && said.contains("FileStreamSinkConnector"), "{}", logs());
    assert!(read("lag-before.txt").contains(&topic), "lag tools: {}", read("lag-before.txt"));
}
