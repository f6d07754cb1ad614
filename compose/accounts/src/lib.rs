//! The interface by which a service's accounts are made and removed: the same for all services of the catalog. It runs in a
//! container of its own beside the service and shares one small volume with it: the file of users, which the service reads and
//! this program alone writes. The file is replaced as a whole; a line in it is what an account is, so an account is there or
//! it is not.
//!
//! - [`name`]: what a user and a password may be;
//! - [`users`]: the file of users as a value, pure;
//! - [`store`]: the file and the users' folders;
//! - [`certificate`]: the certificate of services that speak TLS themselves;
//! - [`caller`]: who may ask;
//! - [`http`]: the interface;
//! - [`setup`]: what programs for mail ask to set themselves up.

#![forbid(unsafe_code)]

pub mod caller;
pub mod certificate;
pub mod http;
pub mod name;
pub mod setup;
pub mod store;
pub mod users;
