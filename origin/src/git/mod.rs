//! Modules straight from Git, as the go command fetches them with `GOPROXY=direct`.

mod diagnose;
mod discovery;
mod fault;
mod gitconfig;
mod mirror;
mod program;
mod refs;
pub mod remote;
pub mod repositories;
mod workshop;
