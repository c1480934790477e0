//! Tests through the binary, in real processes: a file a command, one fixture.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, unreachable_pub, reason = "these are tests")]

mod allocate;
mod at_rest;
mod check;
mod cleanup;
mod completions;
mod database;
mod declared;
mod env_file;
mod env_file_readers;
mod env_file_rights;
mod env_file_writers;
mod exec;
mod faults;
mod fixture;
mod fleet;
mod generated;
mod import;
mod init;
mod list;
mod named;
mod platform;
mod port_users;
mod postgres;
mod postgres_hosts;
mod postgres_waits;
mod power_cut;
mod release;
mod reserve;
mod selftest;
mod server;
mod storage;
mod storm;
mod story;
mod usage;
