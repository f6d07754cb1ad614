//! The fields of `HostConfig`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use super::{Look, Seen, has_keys, is_below, is_clean, is_hex, within};

const MIB: u64 = 1024 * 1024;
/// The one profile of all containers.
const SECCOMP: &str = include_str!("../../../src/deploy/seccomp.json");
/// Mode bits that make a file run as somebody else.
const SET_IDS: u64 = 0o6000;

pub const LOOKS: &[(&str, Look)] = &[
    ("HostConfig.CapAdd", |seen, _, value| capabilities(seen, value)),
    ("HostConfig.CapDrop", |_, _, value| *value == json!(["ALL"])),
    ("HostConfig.CgroupParent", |_, _, value| {
        *value == json!("cell-apps.slice")
    }),
    ("HostConfig.CgroupnsMode", |_, _, value| {
        *value == json!("private")
    }),
    ("HostConfig.CpuShares", |_, _, value| within(value, 2, 1024)),
    ("HostConfig.Devices", |seen, _, value| {
        let tun = json!([{"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rw"}]);
        *value == if seen.is_gateway() { tun } else { json!([]) }
    }),
    ("HostConfig.Devices[].CgroupPermissions", |_, _, value| {
        *value == json!("rw")
    }),
    ("HostConfig.Devices[].PathInContainer", |_, _, value| {
        *value == json!("/dev/net/tun")
    }),
    ("HostConfig.Devices[].PathOnHost", |_, _, value| {
        *value == json!("/dev/net/tun")
    }),
    ("HostConfig.Dns", |seen, _, value| {
        *value == json!([resolver(seen)])
    }),
    ("HostConfig.Init", |_, _, value| *value == json!(true)),
    ("HostConfig.IpcMode", |_, _, value| {
        *value == json!("private") || *value == json!("none")
    }),
    ("HostConfig.LogConfig", |_, _, value| {
        has_keys(value, &["Type", "Config"])
    }),
    ("HostConfig.LogConfig.Config", |_, _, value| {
        let number = |key: &str, unit: &str| value[key].as_str()?.strip_suffix(unit)?.parse::<u32>().ok();
        has_keys(value, &["max-size", "max-file"])
            && number("max-size", "m").is_some_and(|mib| (1..=50).contains(&mib))
            && number("max-file", "").is_some_and(|files| (1..=5).contains(&files))
    }),
    ("HostConfig.LogConfig.Type", |_, _, value| {
        *value == json!("local") || *value == json!("json-file")
    }),
    ("HostConfig.Memory", |seen, _, value| {
        let most = u64::from(seen.asked.ceiling.limits.memory_mib) * MIB;
        within(value, 6 * MIB, most) && *value == json!(seen.number("/limits/memory_mib", 0) * MIB)
    }),
    ("HostConfig.MemoryReservation", |_, host, value| {
        host["Memory"].as_u64().is_some_and(|most| within(value, 1, most))
    }),
    ("HostConfig.MemorySwap", |_, host, value| {
        value.is_u64() && *value == host["Memory"]
    }),
    ("HostConfig.Mounts", |seen, _, value| mounts(seen, value)),
    ("HostConfig.Mounts[].BindOptions", |_, mount, value| {
        // Docker refuses it for what may be written; there is nothing to force.
        mount["Type"] == "bind"
            && has_keys(value, &["Propagation", "ReadOnlyForceRecursive"])
            && value["ReadOnlyForceRecursive"] == mount["ReadOnly"]
    }),
    ("HostConfig.Mounts[].BindOptions.Propagation", |_, _, value| {
        *value == json!("rprivate")
    }),
    (
        "HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive",
        |_, _, value| value.is_boolean(),
    ),
    ("HostConfig.Mounts[].ReadOnly", read_only),
    ("HostConfig.Mounts[].Source", |seen, mount, value| {
        value
            .as_str()
            .is_some_and(|source| is_source(seen, mount, source))
    }),
    ("HostConfig.Mounts[].Target", |_, _, value| {
        value.as_str().is_some_and(is_target)
    }),
    ("HostConfig.Mounts[].TmpfsOptions", |_, mount, value| {
        mount["Type"] == "tmpfs" && has_keys(value, &["SizeBytes", "Mode"])
    }),
    ("HostConfig.Mounts[].TmpfsOptions.Mode", |_, _, value| {
        within(value, 0, 0o1777) && value.as_u64().is_some_and(|mode| mode & SET_IDS == 0)
    }),
    ("HostConfig.Mounts[].TmpfsOptions.SizeBytes", |_, _, value| {
        within(value, 1, 256 * MIB)
    }),
    ("HostConfig.Mounts[].Type", |_, mount, value| {
        let options = match value.as_str() {
            Some("volume") => "VolumeOptions",
            Some("tmpfs") => "TmpfsOptions",
            Some("bind") => "BindOptions",
            _ => return false,
        };
        has_keys(mount, &["Type", "Source", "Target", "ReadOnly", options])
    }),
    ("HostConfig.Mounts[].VolumeOptions", |_, mount, value| {
        mount["Type"] == "volume" && has_keys(value, &["NoCopy"])
    }),
    ("HostConfig.Mounts[].VolumeOptions.NoCopy", |_, _, value| {
        value.is_boolean()
    }),
    ("HostConfig.NanoCpus", |seen, _, value| {
        let most = u64::from(seen.asked.ceiling.limits.cpu_milli) * 1_000_000;
        within(value, 1, most) && *value == json!(seen.number("/limits/cpu_milli", 0) * 1_000_000)
    }),
    ("HostConfig.NetworkMode", |seen, _, value| {
        value
            .as_str()
            .is_some_and(|id| is_hex(id, 64) && id == seen.asked.given.network)
    }),
    ("HostConfig.OomScoreAdj", |_, _, value| within(value, 0, 1000)),
    ("HostConfig.PidsLimit", |seen, _, value| {
        within(value, 1, 4096) && *value == json!(seen.number("/limits/pids", 0))
    }),
    ("HostConfig.PortBindings", |seen, _, value| {
        *value == published(seen)
    }),
    ("HostConfig.Privileged", |_, _, value| *value == json!(false)),
    ("HostConfig.PublishAllPorts", |_, _, value| *value == json!(false)),
    ("HostConfig.ReadonlyRootfs", |seen, _, value| {
        *value == json!(seen.container["read_only_root"] != json!(false))
    }),
    ("HostConfig.RestartPolicy", |_, _, value| {
        has_keys(value, &["Name", "MaximumRetryCount"])
    }),
    ("HostConfig.RestartPolicy.MaximumRetryCount", |_, _, value| {
        within(value, 0, 10)
    }),
    // The policy lets Docker start again what ended; here the broker alone does.
    ("HostConfig.RestartPolicy.Name", |_, _, value| {
        *value == json!("no")
    }),
    ("HostConfig.SecurityOpt", |_, _, value| {
        *value == json!(["no-new-privileges", format!("seccomp={SECCOMP}")])
    }),
    ("HostConfig.ShmSize", |seen, _, value| {
        within(value, 1, 64 * MIB) && *value == json!(seen.number("/limits/shm_mib", 16) * MIB)
    }),
    ("HostConfig.Sysctls", |seen, _, value| {
        let gateway = json!({"net.ipv4.conf.all.src_valid_mark": "1"});
        *value == if seen.is_gateway() { gateway } else { json!({}) }
    }),
    ("HostConfig.Ulimits", |seen, _, value| ulimits(seen, value)),
    ("HostConfig.Ulimits[].Hard", |_, limit, value| {
        within(value, 0, most(limit))
    }),
    ("HostConfig.Ulimits[].Name", |_, limit, value| {
        ["nofile", "nproc", "core"].iter().any(|name| value == name)
            && has_keys(limit, &["Name", "Soft", "Hard"])
    }),
    ("HostConfig.Ulimits[].Soft", |_, limit, value| {
        limit["Hard"].as_u64().is_some_and(|hard| within(value, 0, hard))
    }),
];

/// Some of those that the manifest lists, each once.
fn capabilities(seen: &Seen<'_>, value: &Value) -> bool {
    let Some(words) = value.as_array() else {
        return false;
    };
    let given = [
        "CHOWN",
        "SETUID",
        "SETGID",
        "DAC_OVERRIDE",
        "FOWNER",
        "NET_BIND_SERVICE",
    ];
    let listed = seen.container["capabilities"].as_array();
    let ceiling = &seen.asked.ceiling.capabilities;
    let plain = |word: &Value| {
        let word = word.as_str()?.to_uppercase();
        Some(word.strip_prefix("CAP_").unwrap_or(&word).to_owned())
    };
    let right = |word: &Value| {
        plain(word).is_some_and(|plain| {
            (given.contains(&plain.as_str()) || plain == "NET_ADMIN" && seen.is_gateway())
                && ceiling.iter().any(|allowed| allowed.word() == plain)
        }) && listed.is_some_and(|listed| listed.contains(word))
    };
    let once: BTreeSet<Option<String>> = words.iter().map(plain).collect();
    once.len() == words.len() && words.iter().all(right)
}

/// The machine's own address in the container's network.
fn resolver(seen: &Seen<'_>) -> Ipv4Addr {
    let network = if seen.is_core() {
        seen.asked.ceiling.cell_network.network()
    } else {
        seen.asked.network
    };
    Ipv4Addr::from(u32::from(network) + 1)
}

/// As many as were asked for and one with the secrets, none where or below another is.
fn mounts(seen: &Seen<'_>, value: &Value) -> bool {
    let Some(mounts) = value.as_array() else {
        return false;
    };
    let count = |key: &str| seen.container[key].as_array().map_or(0, Vec::len);
    let targets: Vec<&str> = mounts
        .iter()
        .map(|mount| mount["Target"].as_str().unwrap_or("/"))
        .collect();
    let met = |(n, a): (usize, &&str)| targets.iter().enumerate().any(|(m, b)| n != m && is_below(a, b));
    mounts.len() == count("mounts") + count("secrets").min(1) && !targets.iter().enumerate().any(met)
}

/// What the manifest mounts there; none: the secrets, or nobody asked.
fn asked_for<'a>(seen: &'a Seen<'_>, mount: &Value) -> Option<&'a Value> {
    let mut asked = seen.container["mounts"].as_array().into_iter().flatten();
    asked.find(|asked| asked["target"] == mount["Target"])
}

/// As it was asked for; of the machine's folders only what the ceiling says may be written to.
fn read_only(seen: &Seen<'_>, mount: &Value, value: &Value) -> bool {
    let Some(asked) = asked_for(seen, mount) else {
        return *value == json!(true);
    };
    let root = asked["root"].as_str().unwrap_or_default();
    let mut roots = seen.asked.ceiling.bind_roots.iter();
    let may =
        mount["Type"] != "bind" || roots.any(|(name, root_of)| name.as_str() == root && root_of.writable);
    *value == json!(asked["read_only"] == true) && (*value == json!(true) || may)
}

/// A volume of the service's own, a folder below the root that the manifest names, the container's own secrets, or nothing.
fn is_source(seen: &Seen<'_>, mount: &Value, source: &str) -> bool {
    let service = &seen.asked.service;
    let Some(asked) = asked_for(seen, mount) else {
        let place = seen.asked.ceiling.secrets.as_ref();
        let container = seen.container["name"].as_str().unwrap();
        return mount["Type"] == "bind"
            && mount["Target"] == "/run/secrets"
            && place.is_some_and(|place| source == format!("{}/{service}/{container}", place.folder));
    };
    let said = |key: &str| asked[key].as_str().unwrap_or_default();
    if mount["Type"] != asked["type"] {
        return false;
    }
    match said("type") {
        "volume" => source == format!("cell-{service}.{}", said("volume")),
        "tmpfs" => {
            let options = &mount["TmpfsOptions"];
            let mode = u64::from_str_radix(asked["mode"].as_str().unwrap_or("700"), 8).unwrap();
            source.is_empty()
                && options["SizeBytes"] == json!(asked["size_mib"].as_u64().unwrap() * MIB)
                && options["Mode"] == json!(mode)
        }
        _ => {
            let mut roots = seen.asked.ceiling.bind_roots.iter();
            let root = roots.find(|(name, _)| name.as_str() == said("root"));
            root.is_some_and(|(_, root)| {
                let whole = [root.path.as_str(), said("path")].join("/");
                is_clean(source) && source == whole.trim_end_matches('/') && (!root.core || seen.is_core())
            })
        }
    }
}

fn is_target(target: &str) -> bool {
    let kernels = ["/proc", "/sys", "/dev"];
    is_clean(target)
        && !kernels.iter().any(|folder| is_below(target, folder))
        && !target.starts_with("/run/docker")
}

/// Each that the manifest publishes and the ceiling lists, at one address and one port.
fn published(seen: &Seen<'_>) -> Value {
    let ports = seen.container["ports"].as_array().into_iter().flatten();
    let bound = ports.filter_map(|port| {
        let publish = port["publish"].as_object()?;
        let (address, number) = (publish["address"].as_str()?, publish["port"].as_u64()?);
        let ip: IpAddr = address.parse().ok()?;
        let number = u16::try_from(number).ok()?;
        let ranges = &seen.asked.ceiling.published;
        let listed = ranges
            .iter()
            .any(|range| range.address == ip && range.first <= number && number <= range.last);
        // One that may not be is of no request: the request then has one too many.
        (listed && number >= 1024 && !ip.is_unspecified()).then(|| {
            let protocol = port["protocol"].as_str().unwrap_or("tcp");
            let binding = json!([{"HostIp": ip.to_string(), "HostPort": number.to_string()}]);
            (format!("{}/{protocol}", port["port"]), binding)
        })
    });
    json!(bound.collect::<BTreeMap<_, _>>())
}

/// The most that a limit of this name may be.
fn most(limit: &Value) -> u64 {
    match limit["Name"].as_str() {
        Some("nofile") => 65_536,
        Some("nproc") => 4096,
        _ => 0,
    }
}

/// Those three, each once.
fn ulimits(seen: &Seen<'_>, value: &Value) -> bool {
    let Some(limits) = value.as_array() else {
        return false;
    };
    let names: BTreeSet<&str> = limits.iter().filter_map(|limit| limit["Name"].as_str()).collect();
    let files = limits.iter().find(|limit| limit["Name"] == "nofile");
    limits.len() == 3
        && names == BTreeSet::from(["core", "nofile", "nproc"])
        && files.is_some_and(|limit| limit["Soft"] == json!(seen.number("/limits/files", 1024)))
}
