//! The kernel.
pub mod nft;
