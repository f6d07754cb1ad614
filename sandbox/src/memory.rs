//! Memory that must not reach the disk.

use std::io;

/// Keeps all memory of the process, present and to come, out of swap (mlockall(2)). For the process that holds keys.
///
/// # Errors
/// ENOMEM or EPERM when RLIMIT_MEMLOCK is smaller than what the process has mapped; later allocations can fail for the
/// same reason, so the limit must be generous (`LimitMEMLOCK=`).
pub fn lock_all() -> io::Result<()> {
    // SAFETY: mlockall(2) takes flags and changes no memory's content.
    match unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Leaves the pages that `secret` touches out of core files (MADV_DONTDUMP), a second line behind RLIMIT_CORE 0 and
/// PR_SET_DUMPABLE 0.
///
/// # Errors
/// What madvise(2) answers.
pub fn forbid_dump(secret: &[u8]) -> io::Result<()> {
    if secret.is_empty() {
        return Ok(());
    }
    // SAFETY: sysconf(3) takes a number.
    let page = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
    let offset = secret.as_ptr().addr() % page;
    let start = secret.as_ptr().wrapping_sub(offset).cast_mut();
    // SAFETY: MADV_DONTDUMP changes no content and is no matter of ownership: it touches every page that holds a byte
    // of `secret`, all of which are mapped while `secret` is borrowed.
    match unsafe { libc::madvise(start.cast(), secret.len() + offset, libc::MADV_DONTDUMP) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_slice_can_be_left_out_of_dumps() {
        let secret = vec![7_u8; 3 * 4096 + 5];
        for slice in [&secret[..], &secret[1..2], &secret[4095..4097], &[]] {
            assert!(forbid_dump(slice).is_ok(), "{} bytes", slice.len());
        }
        assert!(secret.iter().all(|byte| *byte == 7));
    }
}
