//! REST: one router behind one chain of guards, on two listeners.

pub mod server;
pub mod transport;

pub mod gate;
pub mod guards;
pub mod headers;
pub mod router;

pub mod openapi;
pub mod routes;

pub mod cookie;
pub mod dto;
pub mod extract;
pub mod idle;
pub mod input;
pub mod problem;

pub mod assets;
