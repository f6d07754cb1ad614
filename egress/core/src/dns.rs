//! DNS: which names are the cell's own, which never leave it, and by which way the rest of a peer's questions goes. Messages
//! are not known here; names, addresses and numbers are.

pub mod address;
pub mod allowance;
pub mod decide;
pub mod name;
pub mod proxied;
pub mod request;
pub mod special;
pub mod table;
pub mod zone;
