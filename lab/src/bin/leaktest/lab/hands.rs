//! What somebody with root does by hand, to the kernel's state and to links.

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::process::pid;
use nix::sys::signal::{Signal, kill};

use super::{Lab, MOMENT, Renderer};
use crate::back::Part;
use crate::kind::Kind;
use crate::said::now;

impl Lab<'_> {
    /// Of a type of [`Kind::TUNNELS`].
    fn interface(&self, kind: Kind) -> String {
        let digits = self.ids[kind.index()].replace('-', "");
        let prefix = if kind == Kind::Openvpn { "ovpn" } else { "wgext" };
        format!("{prefix}_{}", &digits[..8])
    }

    pub(super) fn by_hand(&self, program: &str, arguments: &str) -> Result<()> {
        let arguments: Vec<&str> = arguments.split(' ').collect();
        self.world.cell.run(program, &arguments).map(drop)
    }

    /// What netd is just making anew is not there: whether it was.
    pub(super) fn flap_interface(&self, kind: Kind) -> bool {
        let down = self.by_hand("ip", &format!("link set {} down", self.interface(kind)));
        std::thread::sleep(MOMENT / 4);
        let _up = self.by_hand("ip", &format!("link set {} up", self.interface(kind)));
        down.is_ok()
    }

    /// Answers as [`Lab::flap_interface`].
    pub(super) fn no_interface(&mut self, kind: Kind) -> bool {
        let deleted = self.by_hand("ip", &format!("link delete {}", self.interface(kind)));
        if deleted.is_ok() {
            self.back.may_carry(Part::Interface, kind, now());
        }
        deleted.is_ok()
    }

    pub(super) fn no_tunnel(&mut self) -> Result<()> {
        self.by_hand("ip", "link delete wg0")?;
        std::thread::sleep(MOMENT);
        self.reconnect()
    }

    pub(super) fn flap_uplink(&self) -> Result<()> {
        self.world.internet.ip("link set p10 down")?;
        std::thread::sleep(MOMENT);
        self.world.internet.ip("link set p10 up").map(drop)
    }

    /// All that an administrator may do to rules that are not theirs. With iptables the table with the policy is left alone: it has
    /// no owner, and while it is empty nothing holds (`netd/tests/legacy.rs`).
    pub(super) fn flush(&self) -> Result<()> {
        self.by_hand("nft", "flush ruleset")?;
        if self.renderer == Renderer::Iptables {
            for program in ["iptables-legacy", "ip6tables-legacy"] {
                for table in ["filter", "nat", "raw"] {
                    self.by_hand(program, &format!("-w -t {table} -F"))?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn no_flows(&self) -> Result<()> {
        self.by_hand("conntrack", "-F")
    }

    pub(super) fn no_rules(&self) -> Result<()> {
        no_rules(&self.world.cell)
    }

    pub(super) fn no_routes(&self) -> Result<()> {
        no_routes(&self.world.cell)
    }

    pub(super) fn foreign_rule(&self) -> Result<()> {
        let rules = [
            "-4 rule %% pref 50 from 10.87.0.0/24 lookup main",
            "-6 rule %% pref 50 from fd87::/64 lookup main",
        ];
        for rule in rules {
            self.by_hand("ip", &rule.replace("%%", "add"))?;
        }
        std::thread::sleep(MOMENT);
        for rule in rules {
            self.by_hand("ip", &rule.replace("%%", "delete"))?;
        }
        Ok(())
    }

    pub(super) fn headless(&self) -> Result<()> {
        let (cell, namespace) = (&self.cell, &self.world.cell);
        std::thread::scope(|scope| {
            let killed = scope.spawn(|| cell.crash("netd"));
            let undone = [no_rules(namespace), no_routes(namespace)];
            killed
                .join()
                .map_err(|_| anyhow::anyhow!("a thread panicked"))??;
            undone.into_iter().collect()
        })
    }

    /// netd stays dead for a moment, in which somebody flushes.
    pub(super) fn flush_headless(&mut self) -> Result<()> {
        let netd = self.cell.daemon("netd")?;
        self.cell.hold_launcher()?;
        let dead = pid(netd).and_then(|netd| Ok(kill(netd, Signal::SIGKILL)?));
        std::thread::sleep(MOMENT / 4);
        let flushed = self.flush();
        std::thread::sleep(MOMENT);
        self.cell.release_launcher()?;
        dead.and(flushed)?;
        self.cell.wait_until_back("netd", netd)?;
        self.converged()
    }
}

pub(super) fn no_rules(cell: &Namespace) -> Result<()> {
    cell.ip("-4 rule flush protocol 206")?;
    cell.ip("-6 rule flush protocol 206").map(drop)
}

/// What is not there any more cannot go again.
fn no_routes(cell: &Namespace) -> Result<()> {
    for family in ["-4", "-6"] {
        let _none = cell.ip(&format!("{family} route flush table all proto 206"));
    }
    Ok(())
}
