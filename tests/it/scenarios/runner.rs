//! Runs one scenario.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::client::{Body, Reply, call};
use super::compare::{normalise, short};
use super::reduce::Mode;
use super::variables::Variables;

/// How long a step polls if it does not say so itself, in seconds.
const POLL_SECONDS: f64 = 30.0;
const POLL_PAUSE: Duration = Duration::from_millis(250);

/// How often an answer that speaks of a rebalance is asked for again. Kafka's workers give such answers, ours do not.
const BUSY_RETRIES: usize = 40;
const BUSY_PAUSE: Duration = Duration::from_millis(500);

/// Codes that may stand in for Kafka's own where a step is a quirk.
const QUIRK_CODES: [u16; 6] = [400, 404, 409, 415, 422, 500];

/// A file of `tests/scenarios`.
#[derive(Debug, Deserialize)]
pub struct Scenario {
    name: String,
    steps: Vec<Step>,
    /// Connectors to be deleted at the end, beside those that a step created.
    #[serde(default)]
    cleanup: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Step {
    id: String,
    request: Option<RequestStep>,
    until: Option<Until>,
    expect: Option<Expect>,
    #[serde(default)]
    check: Value,
    #[serde(default)]
    quirk: bool,
    status_hint: Option<u16>,
    action: Option<Action>,
    #[serde(default)]
    path: String,
    #[serde(default)]
    text: String,
    timeout: Option<f64>,
    seconds: Option<f64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestStep {
    method: String,
    path: String,
    #[serde(default)]
    headers: Map<String, Value>,
    json: Option<Value>,
    text: Option<String>,
    #[serde(default)]
    no_content_type: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Until {
    #[serde(default = "success")]
    status: u16,
    /// Dotted path, operation, operand.
    #[serde(default, rename = "where")]
    conditions: Vec<(String, Operation, Value)>,
    timeout: Option<f64>,
}

fn success() -> u16 {
    200
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Eq,
    Len,
    Has,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expect {
    status: u16,
    kind: String,
    content_type: Option<String>,
    body: Option<Value>,
    location: Option<String>,
    allow: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    WriteFile,
    AppendFile,
    AwaitFile,
    Sleep,
}

/// What went wrong in a scenario, by step.
#[derive(Debug)]
pub struct Failure {
    scenario: String,
    problems: Vec<(String, String)>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> =
            self.problems.iter().map(|(step, problem)| format!("{} / {step}: {problem}", self.scenario)).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Scenario {
    /// Reads a file and checks that the runner knows everything in it.
    pub fn read(path: &Path) -> Result<Scenario, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let scenario: Scenario = serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for step in &scenario.steps {
            let described = match (&step.request, step.action) {
                (Some(_), None) if step.expect.is_none() => Err("a request without an expectation".to_owned()),
                (Some(_), None) => mode(&step.check).map(|_| ()),
                (None, Some(_)) => Ok(()),
                _ => Err("neither or both of a request and an action".to_owned()),
            };
            described.map_err(|problem| format!("{}: {}: {problem}", path.display(), step.id))?;
        }
        Ok(scenario)
    }
}

fn mode(check: &Value) -> Result<Mode, String> {
    check.get("mode").and_then(Value::as_str).map_or(Ok(Mode::Exact), Mode::parse)
}

/// Runs a scenario against the worker at `base_url`. Files go below `workdir`, which the worker must see; they and the
/// connectors that were created are removed in the end.
pub async fn run_scenario(base_url: &str, workdir: &Path, path: &Path) -> Result<(), Failure> {
    let unreadable =
        |problem| Failure { scenario: path.display().to_string(), problems: vec![("file".into(), problem)] };
    let scenario = Scenario::read(path).map_err(unreadable)?;
    let prefix = format!("rc{:06x}-{}", fastrand::u32(..1 << 24), scenario.name);
    let directory = workdir.join(&prefix);
    std::fs::create_dir_all(&directory).map_err(|error| unreadable(format!("{}: {error}", directory.display())))?;
    let bootstrap = std::env::var("CONNECT_NODE_BOOTSTRAP").unwrap_or_else(|_| "127.0.0.1:9092".into());
    let variables = Variables(vec![("p", prefix), ("dir", directory.display().to_string()), ("bootstrap", bootstrap)]);
    let cleanup = scenario.cleanup.iter().map(|name| variables.expand_text(name)).collect();
    let mut run = Run { base_url, variables, created: cleanup, problems: Vec::new() };
    run.steps(&scenario.steps).await;
    run.cleanup().await;
    if let Err(error) = std::fs::remove_dir_all(&directory) {
        run.problems.push(("cleanup".into(), format!("{}: {error}", directory.display())));
    }
    if run.problems.is_empty() { Ok(()) } else { Err(Failure { scenario: scenario.name, problems: run.problems }) }
}

struct Run<'a> {
    base_url: &'a str,
    variables: Variables,
    created: Vec<String>,
    problems: Vec<(String, String)>,
}

impl Run<'_> {
    /// A step that comes too late ends the run; one with a wrong answer does not.
    async fn steps(&mut self, steps: &[Step]) {
        for (at, step) in steps.iter().enumerate() {
            let done = match (&step.request, step.action) {
                (Some(request), _) => self.request(step, request).await,
                (None, Some(action)) => self.act(step, action).await.map(|()| Vec::new()),
                (None, None) => Ok(Vec::new()),
            };
            match done {
                Ok(problems) => self.problems.extend(problems.into_iter().map(|problem| (step.id.clone(), problem))),
                Err(problem) => {
                    self.problems.push((step.id.clone(), problem));
                    let rest = steps[at + 1..].iter();
                    self.problems.extend(rest.map(|step| (step.id.clone(), "not run".to_owned())));
                    return;
                }
            }
        }
    }

    async fn request(&mut self, step: &Step, request: &RequestStep) -> Result<Vec<String>, String> {
        let Some(expect) = &step.expect else { return Ok(vec!["the request has no expectation".into()]) };
        let reply = self.exchange(step, request).await?;
        if reply.status == 201
            && let Some(name) = reply.body.json()["name"].as_str()
        {
            self.created.push(name.to_owned());
        }
        let mut problems = Vec::new();
        let check = self.variables.expand(&step.check);
        let actual = self.observe(&check, &reply, &mut problems)?;
        problems.extend(compare(step.quirk, mode(&check)?, expect, &actual, request.method == "OPTIONS"));
        Ok(problems)
    }

    /// Asks until the condition holds, if there is one.
    async fn exchange(&self, step: &Step, request: &RequestStep) -> Result<Reply, String> {
        let Some(until) = &step.until else { return self.patient_call(step, request).await };
        let seconds = until.timeout.unwrap_or(POLL_SECONDS);
        let deadline = Instant::now() + Duration::from_secs_f64(seconds);
        loop {
            let reply = self.patient_call(step, request).await?;
            if self.satisfied(until, &reply) {
                return Ok(reply);
            }
            if Instant::now() >= deadline {
                let (status, body) = (reply.status, short(reply.body.json()));
                return Err(format!("the condition was not met within {seconds} s; last answer: {status} {body}"));
            }
            tokio::time::sleep(POLL_PAUSE).await;
        }
    }

    fn satisfied(&self, until: &Until, reply: &Reply) -> bool {
        reply.status == until.status
            && until.conditions.iter().all(|(path, operation, operand)| {
                let operand = self.variables.expand(operand);
                holds(&pick(reply.body.json(), &self.variables.expand_text(path)), *operation, &operand)
            })
    }

    /// One request, repeated while a worker of Kafka's waits for a rebalance.
    async fn patient_call(&self, step: &Step, request: &RequestStep) -> Result<Reply, String> {
        let wanted = step.expect.as_ref().map(|expect| expect.status).or(step.status_hint);
        let mut tries = 0;
        loop {
            let reply = self.call(request).await?;
            if !is_busy(&reply) || Some(reply.status) == wanted || tries >= BUSY_RETRIES {
                return Ok(reply);
            }
            tries += 1;
            tokio::time::sleep(BUSY_PAUSE).await;
        }
    }

    async fn call(&self, request: &RequestStep) -> Result<Reply, String> {
        let mut headers: Vec<(String, String)> = Vec::new();
        for (name, value) in &request.headers {
            headers.push((name.clone(), self.variables.expand_text(value.as_str().unwrap_or_default())));
        }
        let json = request.json.as_ref().map(|json| self.variables.expand(json).to_string());
        let body = json.or_else(|| request.text.as_ref().map(|text| self.variables.expand_text(text)));
        let has_type = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type"));
        if body.is_some() && !has_type && !request.no_content_type {
            headers.push(("Content-Type".into(), "application/json".into()));
        }
        call(self.base_url, &request.method, &self.variables.expand_text(&request.path), &headers, body).await
    }

    /// The answer as it is compared: reduced, hidden and with variables instead of values.
    fn observe(&self, check: &Value, reply: &Reply, problems: &mut Vec<String>) -> Result<Reply, String> {
        let mut observed = reply.clone();
        observed.location = reply.location.as_deref().map(|location| self.variables.fold_text(path_of(location)));
        if let Body::Json(body) = &reply.body {
            let mut body = body.clone();
            if reply.status < 300 {
                body = mode(check)?.reduce(&body, check, problems);
                if let Some(prefix) = check["filter"].as_str() {
                    keep_prefix(&mut body, prefix);
                }
            }
            for ignored in check["ignore"].as_array().into_iter().flatten().filter_map(Value::as_str) {
                body.as_object_mut().map(|fields| fields.remove(ignored));
            }
            observed.body = Body::Json(self.variables.fold(&normalise(&body)));
        }
        Ok(observed)
    }

    async fn act(&self, step: &Step, action: Action) -> Result<(), String> {
        let (path, text) =
            (PathBuf::from(self.variables.expand_text(&step.path)), self.variables.expand_text(&step.text));
        match action {
            Action::WriteFile => write(&path, &text, false),
            Action::AppendFile => write(&path, &text, true),
            Action::Sleep => {
                tokio::time::sleep(Duration::from_secs_f64(step.seconds.unwrap_or(0.0))).await;
                Ok(())
            }
            Action::AwaitFile => {
                let deadline = Instant::now() + Duration::from_secs_f64(step.timeout.unwrap_or(POLL_SECONDS));
                while std::fs::read(&path).ok().as_deref() != Some(text.as_bytes()) {
                    if Instant::now() >= deadline {
                        return Err(format!("{} never held the expected text", path.display()));
                    }
                    tokio::time::sleep(POLL_PAUSE).await;
                }
                Ok(())
            }
        }
    }

    async fn cleanup(&mut self) {
        self.created.sort();
        self.created.dedup();
        for name in &self.created {
            let path = format!("/connectors/{}", utf8_percent_encode(name, NON_ALPHANUMERIC));
            for _ in 0..BUSY_RETRIES {
                match call(self.base_url, "DELETE", &path, &[], None).await {
                    Ok(reply) if is_busy(&reply) => tokio::time::sleep(BUSY_PAUSE).await,
                    // most scenarios have deleted theirs
                    Ok(_) => break,
                    Err(problem) => {
                        self.problems.push(("cleanup".into(), problem));
                        break;
                    }
                }
            }
        }
    }
}

fn write(path: &Path, text: &str, append: bool) -> Result<(), String> {
    use std::io::Write;
    let written = || {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        let mut options = std::fs::OpenOptions::new();
        options.create(true).write(true).append(append).truncate(!append).open(path)?.write_all(text.as_bytes())
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

fn is_busy(reply: &Reply) -> bool {
    let message = || reply.body.json()["message"].as_str().unwrap_or("").to_ascii_lowercase();
    reply.status == 409 || reply.status == 500 && message().contains("rebalance")
}

/// The path of a URL.
fn path_of(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
    rest.split(['?', '#']).next().unwrap_or(rest)
}

/// Cuts lists of names and maps by name down to the names of this run.
fn keep_prefix(body: &mut Value, prefix: &str) {
    match body {
        Value::Array(items) => items.retain(|item| item.as_str().is_some_and(|name| name.starts_with(prefix))),
        Value::Object(fields) => fields.retain(|name, _| name.starts_with(prefix)),
        _ => {}
    }
}

/// The values at a dotted path; `*` stands for all entries of a list.
fn pick<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for part in path.split('.').filter(|part| !part.is_empty()) {
        found = found
            .into_iter()
            .flat_map(|value| match (part, value) {
                ("*", Value::Array(items)) => items.iter().collect(),
                (_, Value::Array(items)) => part.parse().ok().and_then(|at: usize| items.get(at)).into_iter().collect(),
                (_, value) => value.get(part).into_iter().collect::<Vec<_>>(),
            })
            .collect();
    }
    found
}

fn holds(found: &[&Value], operation: Operation, operand: &Value) -> bool {
    match (operation, found) {
        (Operation::Eq, _) => !found.is_empty() && found.iter().all(|value| *value == operand),
        (Operation::Len, [Value::Array(items)]) => *operand == items.len(),
        (Operation::Len, [Value::Object(fields)]) => *operand == fields.len(),
        (Operation::Has, [Value::Array(items)]) => items.contains(operand),
        (Operation::Has, [Value::Object(fields)]) => operand.as_str().is_some_and(|key| fields.contains_key(key)),
        (Operation::Has, [Value::String(text)]) => operand.as_str().is_some_and(|part| text.contains(part)),
        (Operation::Len | Operation::Has, _) => false,
    }
}

/// One text for each difference between what is expected and what was observed.
fn compare(quirk: bool, mode: Mode, expect: &Expect, actual: &Reply, options: bool) -> Vec<String> {
    let mut expect = expect.clone();
    if actual.status != expect.status {
        if !(quirk && QUIRK_CODES.contains(&actual.status)) {
            return vec![format!(
                "status: expected {}, got {} {}",
                expect.status,
                actual.status,
                short(actual.body.json())
            )];
        }
        if let Some(code) = expect.body.as_mut().and_then(|body| body.get_mut("error_code")) {
            *code = actual.status.into();
        }
    }
    if expect.kind == "other" && !options {
        // a page of the Java server: only the status counts
        return vec![];
    }
    if expect.kind != actual.body.kind() {
        // an empty error of the Java server may well be a JSON error elsewhere
        let tolerable = expect.kind == "empty" && quirk && expect.status >= 400;
        return if tolerable {
            vec![]
        } else {
            vec![format!("body: expected {}, got {}", expect.kind, actual.body.kind())]
        };
    }
    let mut found = Vec::new();
    let content_type = actual.content_type.as_deref();
    match &expect.content_type {
        Some(wanted) if content_type != Some(wanted) => {
            found.push(format!("content type: expected {wanted}, got {content_type:?}"));
        }
        None if !matches!(content_type, None | Some("application/json")) => {
            found.push(format!("content type: expected none or JSON, got {content_type:?}"));
        }
        _ => {}
    }
    if expect.location.is_some() && expect.location != actual.location {
        found.push(format!("Location: expected {:?}, got {:?}", expect.location, actual.location));
    }
    if let Some(mut wanted) = expect.allow {
        let mut got: Vec<_> =
            actual.allow.iter().flat_map(|allow| allow.split(',')).map(|m| m.trim().to_owned()).collect();
        wanted.sort();
        got.sort();
        if wanted != got {
            found.push(format!("Allow: expected {wanted:?}, got {got:?}"));
        }
    }
    if let (Body::Json(body), Some(expected)) = (&actual.body, &expect.body) {
        let mode = if expect.status < 300 { mode } else { Mode::Exact };
        found.extend(mode.differences(expected, body));
    }
    found
}

#[cfg(test)]
mod tests;
