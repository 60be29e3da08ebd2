//! `connect-node quickstart`: the lines of a file go through a topic into another file, under the eyes of a newcomer.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::signal::unix::{SignalKind, signal};

use crate::actors::handle::{HerderError, HerderHandle, HerderRequest, Precondition};
use crate::config::WorkerConfig;
use crate::node::Node;
use crate::plugins::Registry;

/// Names of the two connectors; also the prefix of everything else that it makes.
const SOURCE: &str = "quickstart-source";
const SINK: &str = "quickstart-sink";
const TOPIC: &str = "quickstart-lines";

/// How often the progress line is written.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(200);

/// How long the worker may take to join before the quickstart says what it waits for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Bytes at the end of a file in which its last line is looked for.
const TAIL_BYTES: u64 = 4096;

/// How long an orderly start may take at most.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of the quickstart.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Use this Apache Kafka. Without it topics are kept in the directory.
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap_server: Option<String>,
    /// Where its files are, and its topics where there is no Kafka. What is there goes on where it ended, also after a kill.
    #[arg(long, visible_alias = "dir", value_name = "DIR", default_value = "connect-node-quickstart")]
    directory: PathBuf,
    /// Port of the REST API on the loopback interface.
    #[arg(long, default_value_t = 8083)]
    port: u16,
    /// Lines in the sample file when it is written.
    #[arg(long, default_value_t = 100_000)]
    lines: u64,
    /// End when all lines have arrived, instead of following the file.
    #[arg(long)]
    once: bool,
}

/// Runs until SIGINT or SIGTERM, or with `--once` until all lines have arrived.
pub fn run(arguments: Arguments) -> Result<()> {
    fs::create_dir_all(&arguments.directory)
        .with_context(|| format!("the directory {} cannot be made", arguments.directory.display()))?;
    let directory = arguments.directory.canonicalize()?;
    let (input, output) = (directory.join("input.txt"), directory.join("output.txt"));
    let data = directory.join("data");
    // The lines would come again, behind what is there; and it may be somebody's own file.
    ensure!(
        arguments.bootstrap_server.is_some() || data.exists() || !output.exists(),
        "{} is there, and the topics that it was made from are not ({} is missing): move it away, or choose another --directory",
        output.display(),
        data.display()
    );
    if !input.exists() {
        write_sample(&input, arguments.lines).with_context(|| format!("{} cannot be written", input.display()))?;
    }
    let node = Node::start(worker_config(&arguments, &data)?, Registry::built_in())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        start_connectors(&node, &input, &output).await?;
        introduce(&arguments, &node, &input, &output);
        follow(&node, &input, &output, arguments.once).await
    });
    node.shut_down();
    node.wait()?;
    outcome
}

fn worker_config(arguments: &Arguments, data: &Path) -> Result<WorkerConfig> {
    let embedded = format!("embedded:{}", data.display());
    let servers = arguments.bootstrap_server.as_deref().unwrap_or(&embedded);
    let listener = format!("http://127.0.0.1:{}", arguments.port);
    let mut props = BTreeMap::new();
    for (name, value) in [
        ("bootstrap.servers", servers),
        ("listeners", &listener),
        ("group.id", "connect-node-quickstart"),
        ("config.storage.topic", "connect-node-quickstart-configs"),
        ("offset.storage.topic", "connect-node-quickstart-offsets"),
        ("status.storage.topic", "connect-node-quickstart-status"),
        ("config.storage.replication.factor", "-1"),
        ("offset.storage.replication.factor", "-1"),
        ("status.storage.replication.factor", "-1"),
        ("offset.storage.partitions", "5"),
        ("key.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("value.converter", "org.apache.kafka.connect.storage.StringConverter"),
        ("offset.flush.interval.ms", "1000"),
    ] {
        props.insert(name.to_owned(), value.to_owned());
    }
    Ok(WorkerConfig::from_props(props)?)
}

fn write_sample(path: &Path, lines: u64) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for number in 1..=lines {
        writeln!(file, "line {number:07} of the quickstart: this text goes through a Kafka topic into another file")?;
    }
    file.flush()
}

async fn start_connectors(node: &Node, input: &Path, output: &Path) -> Result<()> {
    wait_until_ready(node).await?;
    let source = [
        ("connector.class", "FileStreamSource".to_owned()),
        ("tasks.max", "1".to_owned()),
        ("file", input.display().to_string()),
        ("topic", TOPIC.to_owned()),
    ];
    let sink = [
        ("connector.class", "FileStreamSink".to_owned()),
        ("tasks.max", "1".to_owned()),
        ("file", output.display().to_string()),
        ("topics", TOPIC.to_owned()),
    ];
    put(node.herder(), SOURCE, source).await?;
    put(node.herder(), SINK, sink).await
}

async fn put(herder: &HerderHandle, name: &str, settings: [(&str, String); 4]) -> Result<()> {
    let own_name = [("name".to_owned(), Some(name.to_owned()))];
    let config =
        settings.map(|(setting, value)| (setting.to_owned(), Some(value))).into_iter().chain(own_name).collect();
    let precondition = Precondition::default();
    let request = |reply| HerderRequest::PutConfig { name: name.to_owned(), config, precondition, reply };
    herder.ask(request).await.with_context(|| format!("connector {name} was not created"))?;
    Ok(())
}

async fn wait_until_ready(node: &Node) -> Result<()> {
    let began = Instant::now();
    let mut told = false;
    while node.is_running() {
        match node.herder().ask(HerderRequest::Health).await {
            Ok(_) => return Ok(()),
            Err(HerderError::Unavailable(reason)) if began.elapsed() < START_TIMEOUT => {
                if began.elapsed() > PATIENCE && !told {
                    eprintln!("{reason}; still trying ...");
                    told = true;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => bail!(error),
        }
    }
    // `Node::wait` says why.
    bail!("the worker ended before it was ready")
}

fn introduce(arguments: &Arguments, node: &Node, input: &Path, output: &Path) {
    let place = match &arguments.bootstrap_server {
        Some(servers) => format!("Kafka at {servers}"),
        None => format!("{} (--bootstrap-server HOST:PORT takes a Kafka)", arguments.directory.join("data").display()),
    };
    let url = node.url().trim_end_matches('/');
    println!(
        "connect-node is running. The topic {TOPIC} is kept in {place}.\n\n  \
         {}  ->  {TOPIC}  ->  {}\n\nTry in another terminal:\n  \
         echo 'a new line' >> {}; tail -n 1 {}\n  \
         curl -s {url}/connectors/{SOURCE}/status\n  \
         curl -s -X PUT {url}/connectors/{SINK}/pause\n  \
         curl -s -X PUT {url}/connectors/{SINK}/resume\n  \
         curl -s {url}/metrics | grep record_write_total\n",
        input.display(),
        output.display(),
        input.display(),
        output.display(),
    );
}

/// Shows how many lines have arrived until there is a reason to end.
async fn follow(node: &Node, input: &Path, output: &Path, once: bool) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (mut read, mut written) = (LineCounter::new(input), LineCounter::new(output));
    let live = io::stdout().is_terminal();
    let began = Instant::now();
    let mut shown = None;
    loop {
        let (lines_in, lines_out) = (read.count()?, written.count()?);
        // After a kill some lines are written twice, so their number alone says nothing.
        let done = lines_out >= lines_in && (lines_in == 0 || last_line(input)? == last_line(output)?);
        if shown != Some((lines_in, lines_out)) && (live || done) {
            let seconds = began.elapsed().as_secs_f64();
            let text = format!("{lines_in} lines in the input, {lines_out} lines in the output, {seconds:.1} s");
            match live {
                true => print!("\r\x1b[K{text}   (Ctrl-C ends it)"),
                false => println!("{text}"),
            }
            io::stdout().flush()?;
            shown = Some((lines_in, lines_out));
        }
        if (once && done) || !node.is_running() {
            break;
        }
        tokio::select! {
            _ = tokio::time::sleep(PROGRESS_INTERVAL) => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
        }
    }
    if live {
        println!();
    }
    Ok(())
}

/// The last line of a file that has one; of a longer line its last `TAIL_BYTES`.
fn last_line(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut tail = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut tail)?;
    let tail = tail.strip_suffix(b"\n").unwrap_or(&tail);
    Ok(tail.rsplit(|byte| *byte == b'\n').next().unwrap_or_default().to_vec())
}

/// Counts the lines of a file that grows, reading each byte once.
struct LineCounter {
    path: PathBuf,
    position: u64,
    lines: u64,
    block: Vec<u8>,
}

impl LineCounter {
    fn new(path: &Path) -> Self {
        LineCounter { path: path.to_owned(), position: 0, lines: 0, block: vec![0; 256 * 1024] }
    }

    fn count(&mut self) -> io::Result<u64> {
        let mut file = match OpenOptions::new().read(true).open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.lines),
            Err(error) => return Err(error),
        };
        file.seek(SeekFrom::Start(self.position))?;
        loop {
            let length = file.read(&mut self.block)?;
            if length == 0 {
                return Ok(self.lines);
            }
            self.position += length as u64;
            self.lines += memchr::memchr_iter(b'\n', &self.block[..length]).count() as u64;
        }
    }
}
