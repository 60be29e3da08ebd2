//! `/connectors/{connector}/tasks`.

use warp::http::StatusCode;

use super::error::{Answer, ApiError};
use super::root::{empty, ok};
use super::routes::Call;
use crate::actors::handle::HerderRequest;

/// Ids and configurations of the tasks.
pub(super) async fn list(call: Call) -> Answer {
    ok(&call.state.herder.ask(|reply| HerderRequest::Tasks(call.connector().to_owned(), reply)).await?)
}

/// State of one task.
pub(super) async fn status(call: Call) -> Answer {
    let task = task(&call)?;
    ok(&call.state.herder.ask(|reply| HerderRequest::TaskStatus(call.connector().to_owned(), task, reply)).await?)
}

/// Restarts one task.
pub(super) async fn restart(call: Call) -> Answer {
    let task = task(&call)?;
    call.state.herder.ask(|reply| HerderRequest::RestartTask(call.connector().to_owned(), task, reply)).await?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// The number in the path. Java's task numbers are 32-bit integers from 0; whatever else stands there is no task: 404.
fn task(call: &Call) -> Result<u32, ApiError> {
    let text = call.params.get(1).map_or("", String::as_str);
    text.parse::<i32>()
        .ok()
        .and_then(|task| u32::try_from(task).ok())
        .ok_or_else(|| ApiError::not_found(format!("the connector {:?} has no task {text:?}", call.connector())))
}
