//! Word of changes by others: nftables transactions, links, addresses, routes, rules.

use std::io;
use std::sync::Arc;

use futures_util::StreamExt as _;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use tokio::sync::Notify;

use super::changes;

/// NFNLGRP_NFTABLES (include/uapi/linux/netfilter/nfnetlink.h).
const NFNLGRP_NFTABLES: u32 = 7;

/// Wakes the returned handle at every change, ours included; what changed is for the listener to look at.
///
/// # Errors
/// Of socket(2) and bind(2).
pub(super) fn listen() -> io::Result<Arc<Notify>> {
    let notify = Arc::new(Notify::new());
    let (connection, _, mut messages) = rtnetlink::new_multicast_connection(&changes::GROUPS)?;
    tokio::spawn(connection);
    let changed = Arc::clone(&notify);
    tokio::spawn(async move {
        while messages.next().await.is_some() {
            changed.notify_one();
        }
    });
    let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
    // A burst may overrun the buffer; that something changed is all we want to know.
    socket.socket_mut().set_no_enobufs(true)?;
    let changed = Arc::clone(&notify);
    tokio::spawn(async move {
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            buffer.clear();
            match socket.recv(&mut buffer).await {
                Ok(_) => changed.notify_one(),
                Err(error) => {
                    tracing::warn!(%error, "no more word of nftables changes; the timer goes on looking");
                    return;
                }
            }
        }
    });
    Ok(notify)
}
