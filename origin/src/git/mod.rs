//! Modules straight from Git.

mod diagnose;
mod fault;
mod gitconfig;
mod program;
pub mod remote;
pub mod repositories;
