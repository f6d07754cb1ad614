//! Bridges of services without a port, in the real kernel. Needs root.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod core_support;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_netd::kernel::linux::{Choice, Linux};
use cell_netd::kernel::nft::Owners;
use cell_netd::kernel::{Kernel as _, Renderer};
use cell_netd::keys::KeySource;

const NONE: &str = "/nonexistent";

#[test]
fn bridges_of_services_without_a_port_are_told_and_removed_and_no_other_links() -> Result<()> {
    let namespace = Namespace::new("bridges")?;
    for line in [
        "link add cellsvc1 type bridge",
        "link add cellsvc2 type bridge",
        "link add port type veth peer name far",
        "link set port master cellsvc2",
        "link add other1 type bridge",
        "link add cellsvc type bridge",
        "link add cellsvc3 type veth peer name far3",
    ] {
        namespace.ip(line)?;
    }
    namespace.inside(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(looked_at(&namespace))
    })??;
    Ok(())
}

async fn looked_at(namespace: &Namespace) -> Result<()> {
    let choice = Choice::Userspace {
        wg_socket: NONE.into(),
        device_socket: NONE.into(),
    };
    let keys = KeySource::new(NONE.into());
    let ceiling = core_support::ceiling();
    let (mut linux, _) = Linux::open(&ceiling, Owners::Never, Renderer::Nftables, choice, keys)?;
    let bare = linux.bare_bridges().await?;
    let names = || bare.iter().map(|bridge| bridge.name.as_str());
    assert_eq!(names().collect::<Vec<_>>(), ["cellsvc1"]);
    let one = bare.first().unwrap();
    namespace.ip("link set port master cellsvc1")?;
    assert!(!linux.remove_bridge(one).await?);
    namespace.ip("link show cellsvc1")?;
    namespace.ip("link set port nomaster")?;
    assert!(linux.remove_bridge(one).await?);
    assert!(namespace.ip("link show cellsvc1").is_err());
    // Whoever makes it again meanwhile has another one.
    namespace.ip("link add cellsvc1 type bridge")?;
    assert!(!linux.remove_bridge(one).await?);
    namespace.ip("link show cellsvc1")?;
    Ok(())
}
