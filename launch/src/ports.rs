//! Who holds a port, from /proc (proc(5)): for one helpful line, so what cannot be found out is left out.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The program and process id of whoever is bound to `address`, read from `table` (`/proc/net/tcp` or `udp`), as words
/// for a message. `None` when it cannot be told.
pub fn holder(table: &Path, address: SocketAddr) -> Option<String> {
    let inode = inode_of(&fs::read_to_string(table).ok()?, address)?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    for process in processes.filter(|entry| entry.file_name().as_bytes().iter().all(u8::is_ascii_digit)) {
        let Ok(descriptors) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let holds =
            |link: fs::DirEntry| fs::read_link(link.path()).is_ok_and(|to| to.as_os_str() == wanted.as_str());
        if descriptors.flatten().any(holds) {
            let name = fs::read_to_string(process.path().join("comm")).unwrap_or_default();
            return Some(format!(
                "{} (process {})",
                name.trim(),
                process.file_name().display()
            ));
        }
    }
    None
}

/// The inode of the socket that is bound to `address` or to its port on all addresses. IPv4 only: so are the ports that a
/// person chooses.
fn inode_of(table: &str, address: SocketAddr) -> Option<u64> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    table.lines().skip(1).find_map(|line| {
        let mut fields = line.split_ascii_whitespace();
        let (local, port) = fields.nth(1)?.split_once(':')?;
        // The kernel prints the address as it lies in memory: network order, read by this machine.
        let local = Ipv4Addr::from(u32::from_str_radix(local, 16).ok()?.to_ne_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        let remote = fields.next()?;
        let inode = fields.nth(6)?.parse().ok()?;
        let bound = port == address.port() && (local.is_unspecified() || local == *address.ip());
        (bound && remote.ends_with(":0000")).then_some(inode)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
   0: 0100007F:0BB8 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
   1: 0100007F:1F90 0200007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_table_of_the_kernel_is_understood() {
        assert_eq!(inode_of(TABLE, "127.0.0.1:3000".parse().unwrap()), Some(4711));
        assert_eq!(inode_of(TABLE, "127.0.0.2:3000".parse().unwrap()), None);
        assert_eq!(
            inode_of(TABLE, "127.0.0.1:8080".parse().unwrap()),
            None,
            "a connection is no listener"
        );
        assert_eq!(inode_of("", "127.0.0.1:3000".parse().unwrap()), None);
    }

    #[test]
    fn the_holder_of_a_real_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let found = holder(Path::new("/proc/self/net/tcp"), listener.local_addr().unwrap()).unwrap();
        assert!(
            found.ends_with(&format!("(process {})", std::process::id())),
            "{found}"
        );
    }
}
