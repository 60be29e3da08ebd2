//! Workers that are killed, brokers that go away: what must not be lost, and what may come twice.
//!
//! Figures of a run are printed; see them with `--nocapture`. `CONNECT_NODE_KILL_LINES` sets the length of the transfers,
//! `CONNECT_NODE_KILL_SEED` repeats the moments of an earlier run, as far as that is possible, and `CONNECT_NODE_BIN` names
//! another executable.

mod broker;
pub mod oracle;
mod pruning;
mod refusals;
mod signals;
mod transfer;
