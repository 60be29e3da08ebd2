//! `/cluster`: what workers and operators ask of the cluster itself. Kafka Connect has nothing like it.

use super::error::{Answer, ApiError};
use super::root::ok;
use super::routes::Call;
use super::target::Query;
use crate::actors::handle::{HerderRequest, UnitsPage};

/// Who this process is: asked by another worker that finds this one's record under its own id, or beside its own.
pub(super) async fn identity(call: Call) -> Answer {
    ok(&call.state.herder.ask(HerderRequest::Identity).await?)
}

/// Whether this worker reaches the one in `?worker_id=` that joined with `?nonce=`: asked by another worker before it evicts that one.
pub(super) async fn reaches(call: Call) -> Answer {
    let worker_id = required(&call.query, "worker_id")?.to_owned();
    let nonce = required(&call.query, "nonce")?;
    let nonce =
        nonce.parse().map_err(|_| ApiError::bad_request(format!("the query parameter nonce={nonce} is no number")))?;
    ok(&call.state.herder.ask(|reply| HerderRequest::Reaches { worker_id, nonce, reply }).await?)
}

fn required<'a>(query: &'a Query, name: &'a str) -> Result<&'a str, ApiError> {
    let value = query.all(name).next().filter(|value| !value.is_empty());
    value.ok_or_else(|| ApiError::bad_request(format!("the query parameter {name} is missing")))
}

/// Members, and a page of units unless `?units=false`; `?after=` has the name of the last unit of the page before.
pub(super) async fn view(call: Call) -> Answer {
    let after = call.query.all("after").next().map(str::to_owned);
    let page = call.query.flag("units", true).then_some(UnitsPage { after });
    ok(&call.state.herder.ask(|reply| HerderRequest::Cluster(page, reply)).await?)
}

/// Removes a worker from the members that cannot do so itself.
pub(super) async fn evict(call: Call) -> Answer {
    ok(&call.state.herder.ask(|reply| HerderRequest::Evict(call.member().to_owned(), reply)).await?)
}
