//! The connectors that connect-node brings. They import `connect_api` and nothing else of this project.

pub mod datagen_source;
pub mod directory_source;
pub mod file_sink;
pub mod file_source;
mod verifiable_json;
pub mod verifiable_sink;
pub mod verifiable_source;

use connect_api::Props;

/// The same configuration for each task, with its number, from 0, in the setting `id`.
fn numbered(props: &Props, id: &str, tasks: usize) -> Vec<Props> {
    let numbered = |task: usize| {
        let mut props = props.clone();
        props.insert(id.to_owned(), task.to_string());
        props
    };
    (0..tasks).map(numbered).collect()
}
