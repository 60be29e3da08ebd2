//! `GET /`, `GET /health`, `GET /metrics`, and how answers are written.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use warp::Reply;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::error::{Answer, ApiError};
use super::media;
use super::routes::Call;
use crate::actors::handle::{HerderError, HerderRequest};

/// How long the herder may take to say that it is well (Java: 10 s).
const HEALTH_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer with a JSON body. Content-Type has no charset, as in Java.
pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(bytes) => with_body(status, media::JSON, bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an answer could not be written as JSON");
            empty(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// 200 with a JSON body.
pub(super) fn ok(value: &impl Serialize) -> Answer {
    Ok(json(StatusCode::OK, value))
}

/// An answer without a body: a Content-Length of 0 for 202 and none for 204, which the server takes care of.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}

fn with_body(status: StatusCode, content_type: &'static str, body: Bytes) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Version, commit and the id of the Kafka cluster.
pub(super) async fn info(call: Call) -> Answer {
    ok(&call.state.herder.ask(HerderRequest::ServerInfo).await?)
}

/// 200 healthy, 503 starting, 500 unhealthy (KIP-1017). The body is the same for all three.
pub(super) async fn health(call: Call) -> Answer {
    #[derive(Serialize)]
    struct Health {
        status: &'static str,
        message: String,
    }
    let asked = tokio::time::timeout(HEALTH_TIMEOUT, call.state.herder.ask(HerderRequest::Health)).await;
    let (code, status, message) = match asked {
        Ok(Ok(message)) => (StatusCode::OK, "healthy", message),
        Ok(Err(HerderError::Unavailable(message))) => (StatusCode::SERVICE_UNAVAILABLE, "starting", message),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, "unhealthy", error.to_string()),
        Err(_) => {
            let message = format!("the herder did not answer within {} s", HEALTH_TIMEOUT.as_secs());
            (StatusCode::INTERNAL_SERVER_ERROR, "unhealthy", message)
        }
    };
    Ok(json(code, &Health { status, message }))
}

/// Counters in Prometheus' text form. Any Accept header gets it: scrapers ask for several forms and take what comes.
pub(super) async fn metrics(call: Call) -> Answer {
    let (metrics, waiting) = (&call.state.metrics, call.state.herder.queue_length() as u64);
    metrics.worker().herder_queue_length.store(waiting, Relaxed);
    match metrics.render() {
        Ok(text) => Ok(with_body(StatusCode::OK, prometheus::TEXT_FORMAT, text.into())),
        Err(error) => {
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, format!("the metrics cannot be rendered: {error}")))
        }
    }
}
