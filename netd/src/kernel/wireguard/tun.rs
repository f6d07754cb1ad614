//! TUN devices (Documentation/networking/tuntap.rst): for cell-wg, and for users whose programs carry exits.
#![allow(
    unsafe_code,
    reason = "ioctl(2): TUNSETIFF on a struct with a union, the others on numbers"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use cell_netd_core::model::InterfaceName;

nix::ioctl_write_ptr_bad!(tunsetiff, libc::TUNSETIFF, libc::ifreq);
nix::ioctl_write_int_bad!(tunsetowner, libc::TUNSETOWNER);
nix::ioctl_write_int_bad!(tunsetpersist, libc::TUNSETPERSIST);

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

/// A TUN that another user may attach to, and that goes with this, unless it is kept.
#[derive(Debug)]
pub(in crate::kernel) struct ForUser(OwnedFd);

impl ForUser {
    /// Makes the interface, which is not there, for the user (numeric id).
    pub(in crate::kernel) fn create(name: &InterfaceName, user: u32) -> io::Result<Self> {
        let tun = create(name)?;
        let user = libc::c_int::try_from(user).map_err(io::Error::other)?;
        // SAFETY: `tun` is open, and the call takes a number.
        unsafe { tunsetowner(tun.as_raw_fd(), user) }?;
        Ok(ForUser(tun))
    }

    /// Lets it stay without a descriptor.
    pub(in crate::kernel) fn keep(self) -> io::Result<()> {
        // SAFETY: `self.0` is open, and the call takes a number.
        unsafe { tunsetpersist(self.0.as_raw_fd(), 1) }?;
        Ok(())
    }
}
