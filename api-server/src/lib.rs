//! cell-api: the cell's REST API, automation socket and web UI. Unprivileged, with no network of its own.

#![forbid(unsafe_code)]

pub mod callers;
pub mod config;
pub mod run;

pub mod http;

pub mod grpc;

pub mod service;

pub mod accounts;
pub mod app;
pub mod authorities;
pub mod certificates;
pub mod dns;
pub mod events;
pub mod exits;
pub mod health;
pub mod password;
pub mod peers;
pub mod public_http;
pub mod published;
pub mod remote;
pub mod services;
pub mod sessions;
pub mod store;
pub mod sweep;
pub mod throttle;
pub mod tidy;

pub mod anchor;
pub mod daemons;
pub mod network;
pub mod reconcile;
pub mod tls;
