//! The whole API on one screen, and how a request finds its endpoint: the path first, then the method.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes};
use futures_util::{FutureExt, Stream};
use warp::filters::path::FullPath;
use warp::http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use warp::reply::Response;
use warp::{Filter, Rejection, Reply};

use super::error::{Answer, ApiError};
use super::target::{self, Query};
use super::{RestState, body, cluster, connectors, media, plugins, root, tasks};
use crate::actors::handle::{HerderError, REQUEST_TIMEOUT};

/// `"path" => METHOD endpoint, ..;` for each resource.
macro_rules! routes {
    ($($path:literal => $($method:ident $endpoint:path),+;)+) => {
        static ROUTES: &[Route] = &[$(Route {
            path: $path,
            endpoints: &[$((Method::$method, |call| Box::pin($endpoint(call)))),+],
        }),+];
    };
}

routes! {
    "/"                                            => GET root::info;
    "/health"                                      => GET root::health;
    "/metrics"                                     => GET root::metrics;
    "/connectors"                                  => GET connectors::list, POST connectors::create;
    "/connectors/{connector}"                      => GET connectors::info, DELETE connectors::delete;
    "/connectors/{connector}/config"               => GET connectors::config, PUT connectors::put_config,
                                                      PATCH connectors::patch_config;
    "/connectors/{connector}/offsets"              => GET connectors::offsets;
    "/connectors/{connector}/topics"               => GET connectors::topics;
    "/connectors/{connector}/topics/reset"         => PUT connectors::reset_topics;
    "/connectors/{connector}/status"               => GET connectors::status;
    "/connectors/{connector}/pause"                => PUT connectors::pause;
    "/connectors/{connector}/resume"               => PUT connectors::resume;
    "/connectors/{connector}/stop"                 => PUT connectors::stop;
    "/connectors/{connector}/restart"              => POST connectors::restart;
    "/connectors/{connector}/tasks"                => GET tasks::list;
    "/connectors/{connector}/tasks/{task}/status"  => GET tasks::status;
    "/connectors/{connector}/tasks/{task}/restart" => POST tasks::restart;
    "/connector-plugins"                           => GET plugins::list;
    "/connector-plugins/{plugin}/config"           => GET plugins::config;
    "/connector-plugins/{plugin}/config/validate"  => PUT plugins::validate;
    "/cluster"                                     => GET cluster::view;
    "/cluster/self"                                => GET cluster::identity;
    "/cluster/reaches"                             => GET cluster::reaches;
    "/cluster/members/{member}/evict"              => POST cluster::evict;
}

/// One resource.
struct Route {
    /// Segments in braces stand for any one segment.
    path: &'static str,
    endpoints: &'static [(Method, Endpoint)],
}

type Endpoint = fn(Call) -> Pin<Box<dyn Future<Output = Answer> + Send>>;

/// A request as its endpoint sees it.
pub(super) struct Call {
    pub(super) state: Arc<RestState>,
    /// The segments that stand for the braces of the path, decoded, in order.
    pub(super) params: Vec<String>,
    pub(super) query: Query,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Call {
    /// The connector that the path names.
    pub(super) fn connector(&self) -> &str {
        self.params.first().map_or("", String::as_str)
    }

    /// The plug-in that the path names.
    pub(super) fn plugin(&self) -> &str {
        self.connector()
    }

    /// The member that the path names.
    pub(super) fn member(&self) -> &str {
        self.connector()
    }
}

impl Route {
    /// The segments in place of the braces, if the path fits.
    fn params(&self, segments: &[String]) -> Option<Vec<String>> {
        let mut params = Vec::new();
        let mut given = segments.iter();
        for part in self.path.split('/').filter(|part| !part.is_empty()) {
            let segment = given.next()?;
            if part.starts_with('{') {
                params.push(segment.clone());
            } else if part != segment {
                return None;
            }
        }
        given.next().is_none().then_some(params)
    }

    /// The methods of the resource with HEAD, where GET exists, and OPTIONS.
    fn allow(&self) -> String {
        let mut methods: Vec<&str> = self.endpoints.iter().map(|(method, _)| method.as_str()).collect();
        if methods.contains(&"GET") {
            methods.push("HEAD");
        }
        methods.push("OPTIONS");
        methods.sort_unstable();
        methods.join(",")
    }
}

/// What to do with a request, decided from its head alone.
enum Plan {
    /// List the methods.
    Options(String),
    /// Read the body and call the endpoint.
    Call { endpoint: Endpoint, params: Vec<String>, has_content_type: bool },
}

/// Java's order of checks: path (400, 404), method (405), what is sent (415), what is accepted (406).
fn plan(method: &Method, path: &str, headers: &HeaderMap) -> Result<Plan, ApiError> {
    let segments = target::segments(path)?;
    let (route, params) = ROUTES
        .iter()
        .find_map(|route| route.params(&segments).map(|params| (route, params)))
        .ok_or_else(|| ApiError::not_found(format!("there is no resource {path}")))?;
    if method == Method::OPTIONS {
        return Ok(Plan::Options(route.allow()));
    }
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let Some((_, endpoint)) = route.endpoints.iter().find(|(method, _)| method == wanted) else {
        let message = format!("{path} does not have the method {method}; it has {}", route.allow());
        return Err(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message));
    };
    let has_content_type = media::check_content_type(headers)?;
    if route.path != "/metrics" {
        media::check_accept(headers)?;
    }
    Ok(Plan::Call { endpoint: *endpoint, params, has_content_type })
}

/// The answer to a target that is only a host, as in `CONNECT host:1`.
pub(super) fn no_path<B>(request: &Request<B>) -> Response {
    let (method, target) = (request.method(), request.uri());
    ApiError::bad_request(format!("{method} {target} has no path; this server is no proxy")).closing().into_response()
}

/// The API as one warp filter. It never rejects: business errors are answers.
pub(super) fn api(
    state: RestState,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    let state = Arc::new(state);
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .then(move |method, path, query, headers, body| {
            let state = state.clone();
            async move { answer(state, method, path, query, headers, body).await }
        })
}

/// Answers every request, also when its endpoint panics, and logs it.
async fn answer(
    state: Arc<RestState>,
    method: Method,
    path: FullPath,
    query: String,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> Response {
    let begun = Instant::now();
    let path = path.as_str();
    let handled = AssertUnwindSafe(handle(state, &method, path, &query, headers, body)).catch_unwind().await;
    let response = match handled {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => {
            tracing::debug!(%method, path, status = error.status.as_u16(), error = error.message, "request refused");
            error.into_response()
        }
        Err(_) => {
            tracing::error!(%method, path, "the endpoint panicked");
            let message = "the endpoint panicked; the log of the worker has the details";
            ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message).into_response()
        }
    };
    let (status, ms) = (response.status().as_u16(), begun.elapsed().as_millis() as u64);
    if method.is_safe() {
        tracing::debug!(%method, path, status, ms, "request answered");
    } else {
        tracing::info!(%method, path, status, ms, "request answered");
    }
    response
}

async fn handle(
    state: Arc<RestState>,
    method: &Method,
    path: &str,
    query: &str,
    headers: HeaderMap,
    body: impl Stream<Item = Result<impl Buf, warp::Error>> + Send,
) -> Answer {
    let (endpoint, params, has_content_type) = match plan(method, path, &headers) {
        Ok(Plan::Call { endpoint, params, has_content_type }) => (endpoint, params, has_content_type),
        Ok(Plan::Options(allow)) => return Ok(options(allow)),
        Err(refusal) => return Err(body::discard(body, &headers, &state.limits, refusal).await),
    };
    let body = body::read(body, &headers, &state.limits).await?;
    if !has_content_type && !body.is_empty() {
        return Err(media::missing_content_type());
    }
    let call = Call { state, params, query: Query::parse(query), headers, body };
    match tokio::time::timeout(REQUEST_TIMEOUT, endpoint(call)).await {
        Ok(answer) => answer,
        Err(_) => Err(HerderError::Timeout.into()),
    }
}

fn options(allow: String) -> Response {
    let mut response = allow.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: Method, path: &str) -> Result<Vec<String>, u16> {
        match plan(&method, path, &HeaderMap::new()) {
            Ok(Plan::Call { params, .. }) => Ok(params),
            Ok(Plan::Options(allow)) => Ok(vec![allow]),
            Err(error) => Err(error.status.as_u16()),
        }
    }

    #[test]
    fn path_decides_before_method() {
        let ok = |params: &[&str]| Ok(params.iter().map(|p| p.to_string()).collect::<Vec<_>>());
        assert_eq!(status(Method::GET, "/"), ok(&[]));
        assert_eq!(status(Method::HEAD, "/connectors/a/"), ok(&["a"]));
        assert_eq!(status(Method::POST, "/connectors/a%20b/tasks/7/restart"), ok(&["a b", "7"]));
        assert_eq!(status(Method::GET, "/connectors/status/status"), ok(&["status"]));
        assert_eq!(status(Method::OPTIONS, "/connectors/a/config"), ok(&["GET,HEAD,OPTIONS,PATCH,PUT"]));
        assert_eq!(status(Method::OPTIONS, "/connectors/a/pause"), ok(&["OPTIONS,PUT"]));
        assert_eq!(status(Method::HEAD, "/connectors/a/pause"), Err(405));
        assert_eq!(status(Method::PUT, "/connectors"), Err(405));
        assert_eq!(status(Method::TRACE, "/"), Err(405));
        assert_eq!(status(Method::POST, "/connectors/a"), Err(405));
        assert_eq!(status(Method::PUT, "/connectors/a/nope"), Err(404));
        assert_eq!(status(Method::OPTIONS, "/nope"), Err(404));
        assert_eq!(status(Method::GET, "/CONNECTORS"), Err(404));
        assert_eq!(status(Method::GET, "/connectors/a/tasks/0"), Err(404));
        assert_eq!(status(Method::GET, "/connectors/a/tasks-config"), Err(404));
        assert_eq!(status(Method::DELETE, "/connectors//"), Err(400));
    }

    #[test]
    fn the_documents_list_every_endpoint() {
        let rows = include_str!("../../docs/rest.md").lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `/")?.split(" | ");
            Some(format!("/{} {}", cells.next()?.trim_end_matches('`'), cells.next()?))
        });
        let routes = ROUTES
            .iter()
            .flat_map(|route| route.endpoints.iter().map(move |(method, _)| format!("{} {method}", route.path)));
        assert_eq!(rows.collect::<Vec<_>>(), routes.collect::<Vec<_>>());
    }

    #[test]
    fn sent_type_is_checked_before_accepted_type() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("text/html"));
        let status =
            |headers: &HeaderMap, path| plan(&Method::GET, path, headers).map(|_| ()).map_err(|e| e.status.as_u16());
        assert_eq!(status(&headers, "/"), Err(406));
        assert_eq!(status(&headers, "/metrics"), Ok(()));
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        assert_eq!(status(&headers, "/"), Err(415));
        assert_eq!(status(&headers, "/nope"), Err(404));
    }
}
