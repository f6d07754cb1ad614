//! The TUN device for cell-wg (Documentation/networking/tuntap.rst).
#![allow(unsafe_code, reason = "TUNSETIFF is an ioctl(2) on a struct with a union")]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use cell_netd_core::model::InterfaceName;

nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);

/// Makes the interface, which is not there. It lives as long as a descriptor of it does.
pub(super) fn create(name: &InterfaceName) -> io::Result<OwnedFd> {
    let tun: File = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: all-zero bytes are a valid `ifreq`: it holds integers, arrays of them and pointers in a union.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.as_str().bytes()) {
        // A name has at most 15 ASCII bytes, so the last byte stays NUL.
        *to = from as libc::c_char;
    }
    // IFF_TUN_EXCL: an interface that is there already is somebody else's.
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: `tun` is open and `request` outlives the call, which reads and writes within it.
    unsafe { tunsetiff(tun.as_raw_fd(), &raw const request) }?;
    Ok(tun.into())
}
