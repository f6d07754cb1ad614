//! One container of a manifest.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::container::{
    Capability, Container, Health, Limits, Mount, Port, Protocol, Published, ReloadSignal, Restart, Source,
    StopSignal, User,
};
use crate::field::Field;
use crate::image::ImageSource;
use crate::name::Name;
use crate::path::{AbsolutePath, BelowRoot};
use crate::rule::{Gather, Rule};
use crate::secret::{self, SECRETS_MAX, Secret, SecretName};
use crate::template::Template;
use crate::wire;

/// Prefixes of variables that mean something to a loader or to Docker's own programs.
const LOADERS: [&str; 3] = ["LD_", "GLIBC_", "DOCKER_"];

pub(super) fn container(
    gather: &mut Gather,
    at: &str,
    written: wire::Container,
    fields: &BTreeMap<String, Field>,
) -> Option<Container> {
    let name = gather.take(
        &format!("{at}.name"),
        Rule::S2,
        Name::try_from(written.name.as_str()),
    );
    let image = gather.take(
        &format!("{at}.image"),
        Rule::I1,
        ImageSource::try_from(written.image.as_str()),
    );
    let user = gather.take(
        &format!("{at}.user"),
        Rule::P7,
        User::try_from(written.user.as_str()),
    );
    let working_dir = working_dir(gather, at, written.working_dir.as_deref());
    let capabilities = capabilities(gather, at, &written.capabilities, written.gateway);
    let stop_signal = stop_signal(gather, at, written.stop_signal.as_deref());
    let reload_signal = reload_signal(gather, at, written.reload_signal.as_deref());
    let stop_timeout_seconds = written.stop_timeout_seconds.unwrap_or(10);
    gather.must(
        stop_timeout_seconds <= 60,
        &format!("{at}.stop_timeout_seconds"),
        Rule::R3,
        "is 0-60",
    );
    let entrypoint = words(gather, &format!("{at}.entrypoint"), &written.entrypoint, fields);
    let command = words(gather, &format!("{at}.command"), &written.command, fields);
    let environment = environment(gather, at, written.environment, fields);
    let mounts = mounts(gather, at, &written.mounts);
    let secrets = secrets(gather, at, &written.secrets, &mounts);
    let limits = limits(gather, &format!("{at}.limits"), &written.limits);
    let health = written
        .health
        .map(|health| self::health(gather, &format!("{at}.health"), &health, fields));
    let restart = restart(gather, &format!("{at}.restart"), &written.restart);
    let ports = ports(gather, at, &written.ports);
    Some(Container {
        name: name?,
        image: image?,
        entrypoint,
        command,
        environment,
        working_dir: working_dir?,
        user: user?,
        read_only_root: written.read_only_root,
        gateway: written.gateway,
        capabilities,
        mounts,
        secrets,
        limits,
        health,
        restart: restart?,
        stop_signal: stop_signal?,
        reload_signal,
        stop_timeout_seconds,
        ports,
    })
}

/// None where it is wrong, none in it where there is none.
#[allow(clippy::option_option, reason = "wrong, absent, or there")]
fn working_dir(gather: &mut Gather, at: &str, written: Option<&str>) -> Option<Option<AbsolutePath>> {
    let Some(dir) = written else {
        return Some(None);
    };
    gather
        .take(&format!("{at}.working_dir"), Rule::I3, AbsolutePath::new(dir))
        .map(Some)
}

fn capabilities(gather: &mut Gather, at: &str, written: &[String], gateway: bool) -> Vec<Capability> {
    let mut found = BTreeSet::new();
    for (n, word) in written.iter().enumerate() {
        let path = format!("{at}.capabilities[{n}]");
        let known = Capability::from_word(word);
        let right =
            "is CHOWN, SETUID, SETGID, DAC_OVERRIDE, FOWNER or NET_BIND_SERVICE, or NET_ADMIN of a gateway";
        if let Some(capability) = gather.take(&path, Rule::P2, known.ok_or(right)) {
            gather.must(found.insert(capability), &path, Rule::P2, "stands once");
            let fits = capability != Capability::NetAdmin || gateway;
            gather.must(fits, &path, Rule::P2, "is for a gateway alone");
        }
    }
    found.into_iter().collect()
}

/// Arguments: no shell reads them, and what fills their places means nothing to one.
fn words(
    gather: &mut Gather,
    path: &str,
    written: &[String],
    fields: &BTreeMap<String, Field>,
) -> Vec<Template> {
    gather.must(written.len() <= 64, path, Rule::J2, "has at most 64 words");
    let mut found = Vec::new();
    for (n, word) in written.iter().enumerate().take(64) {
        let path = format!("{path}[{n}]");
        gather.must(word.len() <= 4096, &path, Rule::J2, "has at most 4096 bytes");
        if let Some(template) = template(gather, &path, Rule::I2, word, fields) {
            let safe = template
                .fields()
                .all(|field| fields.get(field).is_none_or(|field| field.kind.fits_commands()));
            gather.must(
                safe,
                &path,
                Rule::I2,
                "has no place of a printable text: such values go into the environment",
            );
            found.push(template);
        }
    }
    found
}

fn template(
    gather: &mut Gather,
    path: &str,
    rule: Rule,
    text: &str,
    fields: &BTreeMap<String, Field>,
) -> Option<Template> {
    let template = gather.take(path, rule, Template::parse(text))?;
    let declared = template.fields().all(|field| fields.contains_key(field));
    gather.must(
        declared,
        path,
        Rule::S3,
        "has places of fields that config_schema declares",
    );
    let told = template
        .fields()
        .any(|field| fields.get(field).is_some_and(|field| field.is_secret));
    gather.must(
        !told,
        path,
        Rule::S3,
        "has no place of a secret: it is a file below /run/secrets",
    );
    Some(template)
}

fn environment(
    gather: &mut Gather,
    at: &str,
    written: BTreeMap<String, String>,
    fields: &BTreeMap<String, Field>,
) -> BTreeMap<String, Template> {
    gather.must(
        written.len() <= 64,
        &format!("{at}.environment"),
        Rule::J2,
        "has at most 64 variables",
    );
    let mut found = BTreeMap::new();
    for (n, (key, value)) in written.into_iter().enumerate() {
        let path = format!("{at}.environment[{n}]");
        let first = key
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
        let known = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
        let good = first && key.len() <= 64 && key.bytes().all(known);
        let loader = LOADERS.iter().any(|prefix| key.starts_with(prefix));
        gather.must(
            good,
            &path,
            Rule::I4,
            "is named by A-Z, 0-9 and underscore, at most 64",
        );
        gather.must(!loader, &path, Rule::I4, "is not LD_*, GLIBC_* or DOCKER_*");
        gather.must(
            value.len() <= 4096,
            &path,
            Rule::I4,
            "has a value of at most 4096 bytes",
        );
        if let Some(template) = template(gather, &path, Rule::I4, &value, fields) {
            found.insert(key, template);
        }
    }
    found
}

fn mounts(gather: &mut Gather, at: &str, written: &[wire::Mount]) -> Vec<Mount> {
    gather.must(
        written.len() <= 16,
        &format!("{at}.mounts"),
        Rule::J2,
        "are at most 16",
    );
    let mut found: Vec<Mount> = Vec::new();
    for (n, mount) in written.iter().enumerate().take(16) {
        let path = format!("{at}.mounts[{n}]");
        let target = gather.take(
            &format!("{path}.target"),
            Rule::M6,
            AbsolutePath::new(&mount.target),
        );
        let source = source(gather, &path, mount);
        let (Some(target), Some(source)) = (target, source) else {
            continue;
        };
        let apart = found.iter().all(|other| !other.target.overlaps(&target));
        gather.must(
            apart,
            &format!("{path}.target"),
            Rule::M6,
            "is apart from the other targets",
        );
        found.push(Mount {
            source,
            target,
            read_only: mount.read_only,
        });
    }
    found
}

/// What it is given at `/run/secrets`: nothing else may be there.
fn secrets(gather: &mut Gather, at: &str, written: &[wire::Secret], mounts: &[Mount]) -> Vec<Secret> {
    let most = written.len() <= SECRETS_MAX;
    gather.must(most, &format!("{at}.secrets"), Rule::J2, "are at most 16");
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, secret) in written.iter().enumerate().take(SECRETS_MAX) {
        let path = format!("{at}.secrets[{n}]");
        if let Some(bytes) = secret.generate {
            let good = (16..=64).contains(&bytes);
            gather.must(good, &format!("{path}.generate"), Rule::S4, "is 16-64 bytes");
        }
        let name = SecretName::try_from(secret.name.as_str());
        let Some(name) = gather.take(&format!("{path}.name"), Rule::S2, name) else {
            continue;
        };
        gather.must(seen.insert(name.clone()), &path, Rule::S2, "stands once");
        found.push(Secret {
            name,
            is_optional: secret.optional,
            generate: secret.generate,
        });
    }
    let apart = written.is_empty() || !mounts.iter().any(|mount| secret::meets(&mount.target));
    gather.must(
        apart,
        &format!("{at}.mounts"),
        Rule::M6,
        "are apart from /run/secrets, where the secrets are",
    );
    found
}

fn source(gather: &mut Gather, path: &str, written: &wire::Mount) -> Option<Source> {
    let wire::Mount {
        volume,
        root,
        path: below,
        size_mib,
        mode,
        ..
    } = written;
    match (written.r#type.as_str(), volume, root, below, size_mib, mode) {
        ("volume", Some(volume), None, None, None, None) => {
            let name = gather.take(
                &format!("{path}.volume"),
                Rule::M3,
                Name::try_from(volume.as_str()),
            );
            name.map(Source::Volume)
        }
        ("bind", None, Some(root), below, None, None) => {
            let root = gather.take(&format!("{path}.root"), Rule::M1, Name::try_from(root.as_str()));
            let below = BelowRoot::new(below.as_deref().unwrap_or_default());
            let below = gather.take(&format!("{path}.path"), Rule::M1, below);
            Some(Source::Bind {
                root: root?,
                below: below?,
            })
        }
        ("tmpfs", None, None, None, Some(size_mib), mode) => {
            gather.must(
                (1..=256).contains(size_mib),
                &format!("{path}.size_mib"),
                Rule::M2,
                "is 1-256",
            );
            let text = mode.as_deref().unwrap_or("0700");
            let octal = u32::from_str_radix(text, 8)
                .ok()
                .filter(|bits| *bits <= 0o1777 && text.len() <= 5);
            let mode = gather.take(
                &format!("{path}.mode"),
                Rule::M2,
                octal.ok_or("is octal, at most 1777: no setuid or setgid"),
            );
            Some(Source::Tmpfs {
                size_mib: *size_mib,
                mode: mode?,
            })
        }
        ("volume" | "bind" | "tmpfs", ..) => {
            let right =
                "has the keys of its type: volume: volume; bind: root and path; tmpfs: size_mib and mode";
            gather.add(path, Rule::M2, right);
            None
        }
        _ => {
            gather.add(&format!("{path}.type"), Rule::M5, "is volume, bind or tmpfs");
            None
        }
    }
}

fn limits(gather: &mut Gather, at: &str, written: &wire::Limits) -> Limits {
    let limits = Limits {
        memory_mib: written.memory_mib,
        cpu_milli: written.cpu_milli,
        pids: written.pids,
        shm_mib: written.shm_mib.unwrap_or(16),
        files: written.files.unwrap_or(1024),
    };
    for (key, good, right) in [
        (
            "memory_mib",
            (6..=1_048_576).contains(&limits.memory_mib),
            "is at least 6",
        ),
        (
            "cpu_milli",
            (10..=1_024_000).contains(&limits.cpu_milli),
            "is at least 10",
        ),
        ("pids", (1..=4096).contains(&limits.pids), "is 1-4096"),
        ("shm_mib", (1..=64).contains(&limits.shm_mib), "is 1-64"),
        ("files", (64..=65_536).contains(&limits.files), "is 64-65536"),
    ] {
        gather.must(good, &format!("{at}.{key}"), Rule::R1, right);
    }
    limits
}

fn health(gather: &mut Gather, at: &str, written: &wire::Health, fields: &BTreeMap<String, Field>) -> Health {
    for (key, good, right) in [
        (
            "command",
            !written.command.is_empty(),
            "is a program and its arguments",
        ),
        (
            "interval_seconds",
            (5..=3600).contains(&written.interval_seconds),
            "is 5-3600",
        ),
        (
            "timeout_seconds",
            (1..=60).contains(&written.timeout_seconds),
            "is 1-60",
        ),
        ("retries", (1..=10).contains(&written.retries), "is 1-10"),
        (
            "start_period_seconds",
            written.start_period_seconds <= 600,
            "is 0-600",
        ),
    ] {
        gather.must(good, &format!("{at}.{key}"), Rule::I2, right);
    }
    Health {
        command: words(gather, &format!("{at}.command"), &written.command, fields),
        interval_seconds: written.interval_seconds,
        timeout_seconds: written.timeout_seconds,
        retries: written.retries,
        start_period_seconds: written.start_period_seconds,
    }
}

fn stop_signal(gather: &mut Gather, at: &str, written: Option<&str>) -> Option<StopSignal> {
    let Some(word) = written else {
        return Some(StopSignal::Term);
    };
    let known = StopSignal::ALL.into_iter().find(|signal| signal.word() == word);
    let right = "is SIGTERM, SIGINT, SIGQUIT, SIGHUP or SIGUSR1";
    gather.take(&format!("{at}.stop_signal"), Rule::R3, known.ok_or(right))
}

fn reload_signal(gather: &mut Gather, at: &str, written: Option<&str>) -> Option<ReloadSignal> {
    let signal = ReloadSignal::from_word(written?).ok_or("is SIGHUP or SIGUSR1");
    gather.take(&format!("{at}.reload_signal"), Rule::R3, signal)
}

fn restart(gather: &mut Gather, at: &str, written: &wire::Restart) -> Option<Restart> {
    let restart = match (written.policy.as_str(), written.retries) {
        ("no", None) => Ok(Restart::No),
        ("on-failure", Some(times @ 1..=10)) => Ok(Restart::OnFailure(times)),
        ("unless-stopped", None) => Ok(Restart::UnlessStopped),
        _ => Err("is {\"policy\":\"no\"}, on-failure with retries of 1-10, or unless-stopped"),
    };
    gather.take(at, Rule::R3, restart)
}

fn ports(gather: &mut Gather, at: &str, written: &[wire::Port]) -> Vec<Port> {
    gather.must(
        written.len() <= 16,
        &format!("{at}.ports"),
        Rule::J2,
        "are at most 16",
    );
    let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
    for (n, port) in written.iter().enumerate().take(16) {
        let path = format!("{at}.ports[{n}]");
        gather.must(port.port > 0, &path, Rule::N6, "is 1-65535");
        let protocol = match port.protocol.as_deref() {
            None | Some("tcp") => Ok(Protocol::Tcp),
            Some("udp") => Ok(Protocol::Udp),
            Some(_) => Err("is tcp or udp"),
        };
        let Some(protocol) = gather.take(&format!("{path}.protocol"), Rule::N6, protocol) else {
            continue;
        };
        gather.must(seen.insert((port.port, protocol)), &path, Rule::N6, "stands once");
        let published = port
            .publish
            .as_ref()
            .and_then(|publish| published(gather, &format!("{path}.publish"), publish));
        found.push(Port {
            port: port.port,
            protocol,
            published,
        });
    }
    found
}

fn published(gather: &mut Gather, at: &str, written: &wire::Publish) -> Option<Published> {
    let address = written
        .address
        .parse::<IpAddr>()
        .ok()
        .filter(|address| !address.is_unspecified());
    let address = gather.take(
        &format!("{at}.address"),
        Rule::N6,
        address.ok_or("is one address of the machine, never all"),
    );
    gather.must(
        written.port >= 1024,
        &format!("{at}.port"),
        Rule::N6,
        "is 1024-65535",
    );
    Some(Published {
        address: address?,
        port: written.port,
    })
}
