//! A peer that is bound to one exit or another speaks without a pause, in ever new flows, while exits, links, rules, routes,
//! tables and netd itself change and die in a random order: by the machine's own way goes not one packet.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/exits.rs"]
mod cell;
mod support;

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use cell::{Setup, link, near, setup};
use cell_lab::netns::Namespace;
use cell_lab::topology::FAR_HOST;
use cell_proto::netd::v1;
use support::{PATIENCE, flush};

const TRANSITIONS: u32 = 200;
const BETWEEN: Duration = Duration::from_millis(100);

/// What happens to a cell whose peer stays bound: to exit 0 or 1, or to exit 2, which is the relay's, and the relay is away.
#[derive(Debug, Clone, Copy)]
enum Transition {
    Bind(u32),
    Down(usize),
    Up(usize),
    NoRules,
    NoRoutes,
    Flush,
    /// The exits exchange marks and tables.
    Exchange,
    /// netd dies, its rules go while it is dead, and it comes back.
    Kill,
}

const KINDS: [Transition; 11] = [
    Transition::Bind(0),
    Transition::Bind(1),
    Transition::Bind(2),
    Transition::Down(0),
    Transition::Down(1),
    Transition::Up(0),
    Transition::Up(1),
    Transition::NoRules,
    Transition::NoRoutes,
    Transition::Flush,
    Transition::Exchange,
];

struct Lab {
    setup: Setup,
    bound: u32,
    exchanged: bool,
}

impl Lab {
    fn spec(&self) -> v1::NetworkSpec {
        let mut spec = self.setup.spec(&format!("exit{}", self.bound));
        if self.exchanged {
            let [a, b] = [&spec.exits[0], &spec.exits[1]].map(|exit| (exit.mark, exit.table));
            (spec.exits[0].mark, spec.exits[0].table) = b;
            (spec.exits[1].mark, spec.exits[1].table) = a;
        }
        spec.exits.push(v1::ExitSpec {
            id: "exit2".to_owned(),
            mark: 0x1020,
            table: 0,
            interface: String::new(),
            way: Some(v1::exit_spec::Way::Redirect(v1::RedirectExit {
                port: 9102,
                servers: vec![],
            })),
        });
        spec
    }

    fn happen(&mut self, transition: Transition) -> Result<()> {
        let setup = &mut self.setup;
        match transition {
            Transition::Bind(exit) => {
                self.bound = exit;
                setup.bind(&format!("exit{exit}"))?;
            }
            Transition::Down(exit) => drop(setup.cell(&format!("ip link set {} down", link(exit)))?),
            Transition::Up(exit) => {
                setup.cell(&format!("ip link set {} up", link(exit)))?;
                let six = near(exit)[1];
                setup.cell(&format!(
                    "ip -6 address replace {six}/128 dev {} nodad",
                    link(exit)
                ))?;
            }
            Transition::NoRules => self.each(&["ip -4 rule del pref", "ip -6 rule del pref"], 10_033),
            Transition::NoRoutes => self.each(&["ip -4 route flush table", "ip -6 route flush table"], 1000),
            Transition::Flush => flush(&setup.world.cell)?,
            Transition::Exchange => {
                self.exchanged = !self.exchanged;
                self.setup.netd.apply(self.spec(), "")?;
            }
            Transition::Kill => {
                setup.netd.process.signal(nix::sys::signal::Signal::SIGKILL)?;
                setup.netd.process.wait(PATIENCE)?;
                self.each(&["ip -4 rule del pref", "ip -6 rule del pref"], 10_033);
                std::thread::sleep(BETWEEN);
                self.setup.netd.restart(&self.setup.world.cell)?;
                self.setup.netd.apply(self.spec(), "")?;
            }
        }
        Ok(())
    }

    /// Of both exits. What is not there any more cannot go again.
    fn each(&self, commands: &[&str], first: u32) {
        for command in commands {
            for number in [first, first + 1] {
                let _gone = self.setup.cell(&format!("{command} {number}"));
            }
        }
    }
}

/// Opens flows of each kind and family until told to stop; answers how many.
fn speak(namespace: &Namespace, far: IpAddr, stop: &AtomicBool, opened: &AtomicU64) -> Result<()> {
    let to = SocketAddr::new(far, 80);
    let any: SocketAddr = if far.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse()?;
    namespace.inside(|| {
        while !stop.load(Ordering::Relaxed) {
            // Refusals are what is wanted here as often as not.
            let datagram = UdpSocket::bind(any).and_then(|socket| socket.send_to(b"leak?", to));
            let _connected = TcpStream::connect_timeout(&to, Duration::from_millis(20));
            let far = far.to_string();
            let _pinged = Command::new("ping")
                .args(["-n", "-q", "-c", "1", "-W", "0.02", &far])
                .output();
            opened.fetch_add(u64::from(datagram.is_ok()), Ordering::Relaxed);
        }
    })
}

/// Numbers that look random and are the same each time (Knuth, MMIX).
fn draw(state: &mut u64) -> usize {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as usize
}

#[test]
fn no_packet_leaks_in_any_order_of_what_may_happen() -> Result<()> {
    let setup = setup()?;
    let device = Arc::clone(&setup.device);
    let mut lab = Lab {
        setup,
        bound: 0,
        exchanged: false,
    };
    lab.setup.netd.apply(lab.spec(), "")?;
    let _client = lab.setup.client(&device)?;
    lab.setup.all_by(0);
    let (stop, opened) = (AtomicBool::new(false), AtomicU64::new(0));
    let outcome = std::thread::scope(|scope| {
        for far in FAR_HOST.each() {
            let (namespace, stop, opened) = (&device.namespace, &stop, &opened);
            scope.spawn(move || speak(namespace, far, stop, opened).unwrap());
        }
        let mut state = 2026;
        let happened = (1..=TRANSITIONS).try_for_each(|number| {
            let drawn = KINDS[draw(&mut state) % KINDS.len()];
            let transition = if number.is_multiple_of(12) {
                Transition::Kill
            } else {
                drawn
            };
            lab.happen(transition)
                .with_context(|| format!("{number}: {transition:?}"))?;
            std::thread::sleep(BETWEEN);
            let leaked = lab.setup.own_way.packets();
            ensure!(leaked == [0, 0], "{leaked:?} leaked at {number}: {transition:?}");
            Ok(())
        });
        stop.store(true, Ordering::Relaxed);
        happened
    });
    outcome?;
    let through: u64 = lab.setup.exits.iter().flat_map(|exit| exit.1.packets()).sum();
    let opened = opened.into_inner();
    let refused = lab.setup.netd.dropped("exit_refused")?;
    println!("{TRANSITIONS} transitions, {opened} rounds of new flows, {through} packets through the exits");
    ensure!(
        opened > 500 && through > 500 && refused > 50,
        "{opened} {through} {refused}: too little was said"
    );
    for exit in [0, 1] {
        lab.happen(Transition::Up(exit))?;
    }
    lab.happen(Transition::Bind(1))?;
    lab.setup.repaired(1)?;
    ensure!(lab.setup.own_way.packets() == [0, 0]);
    Ok(())
}
