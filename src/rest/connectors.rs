//! `/connectors` and what is below one connector, without its tasks.

use serde_json::{Map, Value, json};
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::body::{self, ConnectorConfig};
use super::conditions::{self, with_etag};
use super::error::{Answer, ApiError};
use super::root::{empty, json, ok};
use super::routes::Call;
use super::target;
use crate::actors::handle::{ConnectorInfo, HerderError, HerderRequest, HerderResult, RestartRequest, TargetState};

/// The setting that repeats the connector's name.
const NAME_CONFIG: &str = "name";

/// Names, or with `?expand=info` and `?expand=status` a map from names to the asked parts. As in Java any `expand`
/// switches to the map, and unknown values add nothing to it.
pub(super) async fn list(call: Call) -> Answer {
    let herder = &call.state.herder;
    let names = herder.ask(HerderRequest::Connectors).await?;
    if call.query.all("expand").next().is_none() {
        return ok(&names);
    }
    let info = call.query.all("expand").any(|part| part == "info");
    let status = call.query.all("expand").any(|part| part == "status");
    let mut all = Map::new();
    for name in names {
        let mut parts = Map::new();
        if info
            && !part(&mut parts, "info", herder.ask(|reply| HerderRequest::ConnectorInfo(name.clone(), reply)).await)?
        {
            continue;
        }
        if status
            && !part(
                &mut parts,
                "status",
                herder.ask(|reply| HerderRequest::ConnectorStatus(name.clone(), reply)).await,
            )?
        {
            continue;
        }
        all.insert(name, Value::Object(parts));
    }
    ok(&all)
}

/// Adds one part of a connector. False when there is none, be it that the connector has just been deleted or that it
/// has no status yet: Java leaves such a connector out.
fn part(
    parts: &mut Map<String, Value>,
    key: &str,
    asked: HerderResult<impl serde::Serialize>,
) -> Result<bool, ApiError> {
    let value = match asked {
        Ok(value) => value,
        Err(HerderError::NotFound(_)) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let value = serde_json::to_value(value).map_err(|error| {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the {key} cannot be written as JSON: {error}"))
    })?;
    parts.insert(key.to_owned(), value);
    Ok(true)
}

/// Creates a connector: 201 with its Location.
pub(super) async fn create(call: Call) -> Answer {
    let request = body::create_request(&call.body)?;
    // Java's String.trim
    let name = request.name.as_deref().unwrap_or("").trim_matches(|c| c <= ' ').to_owned();
    let initial_state = match request.initial_state {
        None => None,
        Some(text) => Some(target_state(&text)?),
    };
    let mut config = request.config;
    put_name(&mut config, &name)?;
    let config = config.0;
    let herder = &call.state.herder;
    let info = herder.ask(|reply| HerderRequest::Create { name, config, initial_state, reply }).await?;
    Ok(created(&call, &info))
}

fn target_state(text: &str) -> Result<TargetState, ApiError> {
    match text.to_ascii_uppercase().as_str() {
        "RUNNING" => Ok(TargetState::Started),
        "PAUSED" => Ok(TargetState::Paused),
        "STOPPED" => Ok(TargetState::Stopped),
        _ => Err(ApiError::bad_request(format!(
            "initial_state {text:?} is unknown; RUNNING, PAUSED and STOPPED are possible"
        ))),
    }
}

/// The name that the request gives and the one in the configuration must agree; the latter is added where it is missing
/// (Java: `ConnectorsResource.checkAndPutConnectorConfigName`).
fn put_name(config: &mut ConnectorConfig, name: &str) -> Result<(), ApiError> {
    check_name(config, name)?;
    config.0.insert(NAME_CONFIG.to_owned(), Some(name.to_owned()));
    Ok(())
}

fn check_name(config: &ConnectorConfig, name: &str) -> Result<(), ApiError> {
    match config.0.get(NAME_CONFIG) {
        Some(Some(inner)) if inner != name => Err(ApiError::bad_request(format!(
            "the setting 'name' is {inner:?}, but the request is about the connector {name:?}; make them equal or leave \
             the setting out"
        ))),
        _ => Ok(()),
    }
}

fn created(call: &Call, info: &ConnectorInfo) -> Response {
    let mut response = json(StatusCode::CREATED, info);
    let location = format!("{}/connectors/{}", call.state.advertised_url, target::encode_segment(&info.name));
    match HeaderValue::try_from(location) {
        Ok(location) => {
            response.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => tracing::warn!(
            advertised_url = call.state.advertised_url,
            "the advertised URL cannot stand in a header; the answer has no Location"
        ),
    }
    with_etag(response, info.version)
}

/// Configuration and tasks. The ETag is that of the configuration: tasks change without it.
pub(super) async fn info(call: Call) -> Answer {
    shown(&connector_info(&call).await?)
}

fn shown(info: &ConnectorInfo) -> Answer {
    Ok(with_etag(ok(info)?, info.version))
}

/// The configuration alone.
pub(super) async fn config(call: Call) -> Answer {
    let info = connector_info(&call).await?;
    Ok(with_etag(ok(&info.config)?, info.version))
}

async fn connector_info(call: &Call) -> HerderResult<ConnectorInfo> {
    call.state.herder.ask(|reply| HerderRequest::ConnectorInfo(call.connector().to_owned(), reply)).await
}

/// Creates (201) or replaces (200) a configuration.
pub(super) async fn put_config(call: Call) -> Answer {
    let precondition = conditions::of_put(&call.headers)?;
    let mut config = body::connector_config(&call.body)?;
    put_name(&mut config, call.connector())?;
    let (name, config) = (call.connector().to_owned(), config.0);
    let herder = &call.state.herder;
    let (new, info) = herder.ask(|reply| HerderRequest::PutConfig { name, config, precondition, reply }).await?;
    if new { Ok(created(&call, &info)) } else { shown(&info) }
}

/// Changes some settings; those that are null go (KIP-477). Another name would make a connector whose group and offsets are not its own.
pub(super) async fn patch_config(call: Call) -> Answer {
    let precondition = conditions::of_change(&call.headers)?;
    let changes = body::connector_config(&call.body)?;
    check_name(&changes, call.connector())?;
    let (name, changes) = (call.connector().to_owned(), changes.0);
    let herder = &call.state.herder;
    shown(&herder.ask(|reply| HerderRequest::PatchConfig { name, changes, precondition, reply }).await?)
}

/// Deletes a connector.
pub(super) async fn delete(call: Call) -> Answer {
    let precondition = conditions::of_change(&call.headers)?;
    let name = call.connector().to_owned();
    call.state.herder.ask(|reply| HerderRequest::Delete(name, precondition, reply)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// States of the connector and its tasks.
pub(super) async fn status(call: Call) -> Answer {
    ok(&call.state.herder.ask(|reply| HerderRequest::ConnectorStatus(call.connector().to_owned(), reply)).await?)
}

/// Where it got to: source partitions, or the committed offsets of the sink's group (KIP-875).
pub(super) async fn offsets(call: Call) -> Answer {
    ok(&call.state.herder.ask(|reply| HerderRequest::Offsets(call.connector().to_owned(), reply)).await?)
}

/// The topics that it used. One that does not exist has used none, as in Java.
pub(super) async fn topics(call: Call) -> Answer {
    let name = call.connector();
    let topics = call.state.herder.ask(|reply| HerderRequest::ActiveTopics(name.to_owned(), reply)).await?;
    ok(&json!({name: {"topics": topics}}))
}

/// Accepted; the topics are forgotten.
pub(super) async fn reset_topics(call: Call) -> Answer {
    call.state.herder.ask(|reply| HerderRequest::ResetActiveTopics(call.connector().to_owned(), reply)).await?;
    Ok(empty(StatusCode::ACCEPTED))
}

/// Accepted; tasks stay and move nothing.
pub(super) async fn pause(call: Call) -> Answer {
    set_target_state(call, TargetState::Paused, StatusCode::ACCEPTED).await
}

/// Accepted; undoes pause and stop.
pub(super) async fn resume(call: Call) -> Answer {
    set_target_state(call, TargetState::Started, StatusCode::ACCEPTED).await
}

/// No content; the tasks go (KIP-875).
pub(super) async fn stop(call: Call) -> Answer {
    set_target_state(call, TargetState::Stopped, StatusCode::NO_CONTENT).await
}

async fn set_target_state(call: Call, target: TargetState, status: StatusCode) -> Answer {
    let name = call.connector().to_owned();
    call.state.herder.ask(|reply| HerderRequest::SetTargetState(name, target, reply)).await?;
    Ok(empty(status))
}

/// Without options the connector alone (204); with one of them a plan, answered with the states to come (202, KIP-745).
pub(super) async fn restart(call: Call) -> Answer {
    let request = RestartRequest {
        include_tasks: call.query.flag("includeTasks", false),
        only_failed: call.query.flag("onlyFailed", false),
    };
    let (herder, name) = (&call.state.herder, call.connector().to_owned());
    if request == RestartRequest::default() {
        herder.ask(|reply| HerderRequest::RestartConnector(name, reply)).await?;
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let status = herder.ask(|reply| HerderRequest::Restart(name, request, reply)).await?;
    Ok(json(StatusCode::ACCEPTED, &status))
}
