//! A TCP listener that can serve and can never be a client, on any kernel and whatever its holder does with it.
//!
//! A handed-over listener lives in the network that it was bound in. connect(2) with AF_UNSPEC makes it a plain socket
//! again, from which connect(2) leads out; a system call filter cannot look at the address, and Landlock's rule came with
//! Linux 6.7. So the socket itself gets a filter that the kernel keeps on it and on all that it accepts (socket(7),
//! SO_ATTACH_FILTER): it drops the answer that every connect waits for.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Where a TCP header has its flags, bytes; a filter on a TCP socket sees the header first.
const FLAGS: u32 = 13;
/// SYN and ACK: only a client is ever sent both.
const SYN_ACK: u32 = 0x12;

/// Has `listener`, and every connection that it accepts, drop what answers a connect. It cannot be taken back, and a listener
/// outlives the daemon that did it: the next start finds it done.
///
/// # Errors
/// What setsockopt(2) answers.
pub fn never_connects(listener: impl AsFd) -> io::Result<()> {
    if is_locked(&listener)? {
        return Ok(());
    }
    let step = |code: u32, jt, jf, k| libc::sock_filter {
        code: code as u16,
        jt,
        jf,
        k,
    };
    let mut program = [
        step(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS, 0, 0, FLAGS),
        step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, SYN_ACK),
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, SYN_ACK),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, 0),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX),
    ];
    let program = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_mut_ptr(),
    };
    set(&listener, libc::SO_ATTACH_FILTER, &program)?;
    let locked: libc::c_int = 1;
    set(&listener, libc::SO_LOCK_FILTER, &locked)
}

/// Whether the listener has its filter for good. Only the first daemon that holds it can have done that, before it read its
/// first byte from outside.
fn is_locked(socket: &impl AsFd) -> io::Result<bool> {
    let mut locked: libc::c_int = 0;
    let mut size = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `locked` and `size` outlive the call, and `size` is the size of what `locked` points to.
    let rc = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_LOCK_FILTER,
            (&raw mut locked).cast(),
            &raw mut size,
        )
    };
    if rc == 0 {
        Ok(locked != 0)
    } else {
        Err(io::Error::last_os_error())
    }
}

fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value`, and the program that a sock_fprog points to, outlive the call; the kernel copies both.
    let rc = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            (&raw const *value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
