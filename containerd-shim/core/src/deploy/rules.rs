//! The constraint of each of the 72 fields that are sent. Written apart from what renders, so that a fault there shows here.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use cell_manifest::{AbsolutePath, Capability, Digest, Image, Name, Published, Rule, StopSignal, User};
use serde_json::{Value, json};

use super::ceiling::Ceiling;
use super::render::{CGROUP, GATEWAY_SYSCTL, Given, SECCOMP};

const MIB: u64 = 1024 * 1024;
const SECOND_NS: u64 = 1_000_000_000;

pub(super) struct Rules<'a> {
    body: &'a Value,
    ceiling: &'a Ceiling,
    given: Option<&'a Given>,
}

impl<'a> Rules<'a> {
    pub(super) fn new(body: &'a Value, ceiling: &'a Ceiling, given: Option<&'a Given>) -> Self {
        Rules { body, ceiling, given }
    }

    /// Notes the rules that `value` breaks as `field`; false when the field has no constraint here.
    pub(super) fn check(&self, field: &str, value: &Value, out: &mut Vec<Rule>) -> bool {
        match field.strip_prefix("HostConfig.") {
            Some(host) => match host.strip_prefix("Mounts") {
                Some(mount) => self.mount(mount, value, out),
                None => self.host(host, value, out),
            },
            None => self.config(field, value, out),
        }
    }

    fn config(&self, field: &str, value: &Value, out: &mut Vec<Rule>) -> bool {
        let mut must = |holds: bool, rule: Rule| {
            if !holds {
                out.push(rule);
            }
        };
        match field {
            "Cmd" | "Entrypoint" => must(words(value, 1, 64), Rule::I2),
            "Env" => must(environment(value), Rule::I4),
            "ExposedPorts" => must(
                keys(value) == keys(&self.body["HostConfig"]["PortBindings"]),
                Rule::N6,
            ),
            "Healthcheck" => must(value.is_object(), Rule::I2),
            "Healthcheck.Test" => must(health_test(value), Rule::I2),
            "Healthcheck.Interval" | "Healthcheck.StartInterval" => {
                must(within(value, 5 * SECOND_NS, 3600 * SECOND_NS), Rule::I2);
            }
            "Healthcheck.Timeout" => must(within(value, SECOND_NS, 60 * SECOND_NS), Rule::I2),
            "Healthcheck.Retries" => must(within(value, 1, 10), Rule::I2),
            "Healthcheck.StartPeriod" => must(within(value, 0, 600 * SECOND_NS), Rule::I2),
            "Hostname" => must(
                value.as_str().is_some_and(|text| Name::try_from(text).is_ok()),
                Rule::X4,
            ),
            "Image" => must(self.image(value), Rule::I1),
            "Labels" => must(self.labels(value), Rule::I5),
            "StopSignal" => {
                let known = StopSignal::ALL.iter().any(|signal| value == signal.word());
                must(known, Rule::R3);
            }
            "StopTimeout" => must(within(value, 0, 60), Rule::R3),
            "User" => must(
                value.as_str().is_some_and(|text| User::try_from(text).is_ok()),
                Rule::P7,
            ),
            "WorkingDir" => must(path(value).is_some(), Rule::I3),
            "NetworkingConfig.EndpointsConfig" => must(self.endpoints(value), Rule::N2),
            "NetworkingConfig.EndpointsConfig{}.Aliases" => {
                let names = strings(value).is_some_and(|all| {
                    all.len() == 1 && all.iter().all(|alias| Name::try_from(*alias).is_ok())
                });
                must(names, Rule::N5);
            }
            "NetworkingConfig.EndpointsConfig{}.IPAMConfig" => must(value.is_object(), Rule::N5),
            "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv4Address" => {
                must(self.address(value), Rule::N5)
            }
            "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv6Address" => must(value == "", Rule::N5),
            _ => return false,
        }
        true
    }

    fn host(&self, field: &str, value: &Value, out: &mut Vec<Rule>) -> bool {
        let mut must = |holds: bool, rule: Rule| {
            if !holds {
                out.push(rule);
            }
        };
        match field {
            "CapAdd" => must(self.capabilities(value), Rule::P2),
            "CapDrop" => must(*value == json!(["ALL"]), Rule::P2),
            "Privileged" => must(*value == json!(false), Rule::P1),
            "SecurityOpt" => {
                must(security_options(value), Rule::P3);
            }
            "ReadonlyRootfs" => must(value.is_boolean(), Rule::P9),
            "CgroupParent" => must(value == CGROUP, Rule::N3),
            "CgroupnsMode" => must(value == "private", Rule::N1),
            "IpcMode" => must(value == "private" || value == "none", Rule::N1),
            "NetworkMode" => must(self.network(value), Rule::N2),
            "Dns" => must(self.resolver(value), Rule::N7),
            "Sysctls" => {
                let gateway = json!({GATEWAY_SYSCTL.0: GATEWAY_SYSCTL.1});
                must(
                    *value == json!({}) || (self.gateways() && *value == gateway),
                    Rule::N4,
                );
            }
            "Devices" => {
                let tun = value
                    .as_array()
                    .is_some_and(|all| all.len() == 1 && self.gateways());
                must(*value == json!([]) || tun, Rule::P5);
            }
            "Devices[].PathOnHost" | "Devices[].PathInContainer" => must(value == "/dev/net/tun", Rule::P5),
            "Devices[].CgroupPermissions" => must(value == "rw", Rule::P5),
            "Init" => must(*value == json!(true), Rule::X3),
            "PublishAllPorts" => must(*value == json!(false), Rule::N6),
            "PortBindings" => must(self.ports(value), Rule::N6),
            _ => return self.resources(field, value, out),
        }
        true
    }

    fn resources(&self, field: &str, value: &Value, out: &mut Vec<Rule>) -> bool {
        let mut must = |holds: bool, rule: Rule| {
            if !holds {
                out.push(rule);
            }
        };
        let memory = self.body["HostConfig"]["Memory"].as_u64().unwrap_or(0);
        let limits = self.ceiling.limits;
        match field {
            "OomScoreAdj" => must(within(value, 0, 1000), Rule::R2),
            "CpuShares" => must(within(value, 2, 1024), Rule::R1),
            "NanoCpus" => must(
                within(value, 1, u64::from(limits.cpu_milli) * 1_000_000),
                Rule::R1,
            ),
            "Memory" => must(
                within(value, 6 * MIB, u64::from(limits.memory_mib) * MIB),
                Rule::R1,
            ),
            "MemorySwap" => must(value.as_u64() == Some(memory) && memory > 0, Rule::R1),
            "MemoryReservation" => must(within(value, 0, memory), Rule::R1),
            "PidsLimit" => must(within(value, 1, u64::from(limits.pids.min(4096))), Rule::R1),
            "ShmSize" => must(within(value, 1, 64 * MIB), Rule::R1),
            "Ulimits" => must(ulimits(value), Rule::R1),
            "Ulimits[].Name" => must(value.is_string(), Rule::R1),
            "Ulimits[].Soft" | "Ulimits[].Hard" => must(within(value, 0, 65_536), Rule::R1),
            "LogConfig" => must(value.is_object(), Rule::X5),
            "LogConfig.Type" => must(value == "json-file" || value == "local", Rule::X5),
            "LogConfig.Config" => must(log_bounds(value), Rule::X5),
            "RestartPolicy" => must(value.is_object(), Rule::R3),
            "RestartPolicy.Name" => must(value == "no", Rule::R3),
            "RestartPolicy.MaximumRetryCount" => must(within(value, 0, 0), Rule::R3),
            _ => return false,
        }
        true
    }

    fn mount(&self, field: &str, value: &Value, out: &mut Vec<Rule>) -> bool {
        let mut must = |holds: bool, rule: Rule| {
            if !holds {
                out.push(rule);
            }
        };
        match field {
            "" => self.mounts(value, out),
            "[].Type" => {
                must(
                    ["volume", "tmpfs", "bind"].iter().any(|kind| value == kind),
                    Rule::M5,
                );
            }
            // With its type: see `mounts`.
            "[].Source" => must(value.is_string(), Rule::M1),
            "[].Target" => must(path(value).is_some(), Rule::M6),
            "[].ReadOnly" => must(value.is_boolean(), Rule::M2),
            "[].BindOptions" | "[].TmpfsOptions" => must(value.is_object(), Rule::M2),
            "[].BindOptions.Propagation" => must(value == "rprivate", Rule::M2),
            "[].BindOptions.ReadOnlyForceRecursive" => must(value.is_boolean(), Rule::M2),
            "[].TmpfsOptions.Mode" => must(within(value, 0, 0o1777), Rule::M2),
            "[].TmpfsOptions.SizeBytes" => must(within(value, 1, 256 * MIB), Rule::M2),
            "[].VolumeOptions" => must(value.is_object(), Rule::M4),
            "[].VolumeOptions.NoCopy" => must(value.is_boolean(), Rule::M4),
            _ => return false,
        }
        true
    }

    /// What joins the fields of each mount, and the mounts.
    fn mounts(&self, value: &Value, out: &mut Vec<Rule>) {
        let Some(mounts) = value.as_array() else {
            return out.push(Rule::M5);
        };
        let mut targets: Vec<AbsolutePath> = Vec::new();
        for mount in mounts {
            if let Some(target) = path(&mount["Target"]) {
                if targets.iter().any(|other| other.overlaps(&target)) {
                    out.push(Rule::M6);
                }
                targets.push(target);
            }
            let source = mount["Source"].as_str().unwrap_or_default();
            let fits = |key: &str| mount.get(key).is_none_or(Value::is_null);
            match mount["Type"].as_str() {
                Some("bind") => {
                    self.bind(mount, source, out);
                    if !fits("VolumeOptions") || !fits("TmpfsOptions") || fits("BindOptions") {
                        out.push(Rule::M2);
                    }
                }
                Some("volume") => {
                    if !self.volume(source) {
                        out.push(Rule::M3);
                    }
                    if !fits("BindOptions") || !fits("TmpfsOptions") {
                        out.push(Rule::M2);
                    }
                }
                Some("tmpfs") => {
                    if !source.is_empty()
                        || !fits("BindOptions")
                        || !fits("VolumeOptions")
                        || fits("TmpfsOptions")
                    {
                        out.push(Rule::M2);
                    }
                }
                Some(_) | None => out.push(Rule::M5),
            }
        }
    }

    /// A bind of the folder with this very container's secrets, at the one place where they are looked for, and not to be written.
    fn is_of_secrets(&self, folder: &str, mount: &Value, source: &str) -> bool {
        let service = self.body["Labels"]["cell.part-of"].as_str().unwrap_or_default();
        let container = self.body["Hostname"].as_str().unwrap_or_default();
        let named = [service, container]
            .iter()
            .all(|text| Name::try_from(*text).is_ok());
        named
            && source == format!("{folder}/{service}/{container}")
            && mount["Target"] == "/run/secrets"
            && mount["ReadOnly"] == json!(true)
            && mount["BindOptions"]["Propagation"] == "rprivate"
            && mount["BindOptions"]["ReadOnlyForceRecursive"] == json!(true)
    }

    fn bind(&self, mount: &Value, source: &str, out: &mut Vec<Rule>) {
        if let Some(place) = self.ceiling.secrets.as_ref().filter(|place| place.holds(source)) {
            // Whatever bind roots say of it: of this folder nothing else is given.
            if !self.is_of_secrets(&place.folder, mount, source) {
                out.push(Rule::M1);
            }
            return;
        }
        let root = self.ceiling.bind_roots.values().find(|root| root.holds(source));
        let walked = self
            .given
            .is_none_or(|given| given.binds.values().any(|path| path == source));
        let read_only = mount["ReadOnly"] == json!(true);
        match root {
            // In the cell's network are the cell's own containers alone.
            Some(root) if root.core && !self.is_core() => out.push(Rule::M1),
            Some(root) if walked => {
                if !read_only && !root.writable {
                    out.push(Rule::M2);
                }
                let recursive = &mount["BindOptions"]["ReadOnlyForceRecursive"];
                if mount["BindOptions"]["Propagation"] != "rprivate" || *recursive != json!(read_only) {
                    out.push(Rule::M2);
                }
            }
            Some(_) | None => out.push(Rule::M1),
        }
    }

    /// `cell-SERVICE.VOLUME`, of the service whose labels the container bears.
    fn volume(&self, source: &str) -> bool {
        let parts = source.strip_prefix("cell-").and_then(|rest| rest.split_once('.'));
        let part_of = self.body["Labels"]["cell.part-of"].as_str();
        parts.is_some_and(|(service, name)| {
            part_of == Some(service) && Name::try_from(service).is_ok() && Name::try_from(name).is_ok()
        })
    }

    fn image(&self, value: &Value) -> bool {
        let Some(text) = value.as_str() else {
            return false;
        };
        if let Ok(id) = Digest::try_from(text) {
            let listed = self.given.is_none_or(|given| given.images.contains(&id));
            return self.ceiling.local_images.is_some() && listed;
        }
        Image::try_from(text).is_ok_and(|image| {
            // Name and digest alone: what Docker looks up is then not a tag.
            image.to_string() == text
                && self
                    .ceiling
                    .registries
                    .iter()
                    .any(|registry| image.is_from(registry))
        })
    }

    /// The owner's, the handle, and three of this deployment; no others.
    fn labels(&self, value: &Value) -> bool {
        let Some(labels) = value.as_object() else {
            return false;
        };
        let texts: Option<std::collections::BTreeMap<String, String>> = labels
            .iter()
            .map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect();
        let Some(texts) = texts else {
            return false;
        };
        let ownership = &self.ceiling.ownership;
        let own = ["cell.part-of", "cell.manifest", "cell.attempt"];
        let attempt = self
            .given
            .is_none_or(|given| texts.get("cell.attempt") == Some(&given.attempt));
        let part_of = texts
            .get("cell.part-of")
            .is_some_and(|name| Name::try_from(name.as_str()).is_ok());
        texts.len() == 5
            && attempt
            && part_of
            && own.iter().all(|key| texts.contains_key(*key))
            && ownership.owns(&texts)
            && ownership.service(&texts).is_some()
    }

    fn gateways(&self) -> bool {
        !self.ceiling.gateways.is_empty() && self.given.is_none_or(|given| given.gateway)
    }

    fn capabilities(&self, value: &Value) -> bool {
        let Some(words) = strings(value) else {
            return false;
        };
        let tun = self.body["HostConfig"]["Devices"]
            .as_array()
            .is_some_and(|all| !all.is_empty());
        let mut seen = BTreeSet::new();
        words.iter().all(|word| {
            Capability::from_word(word).is_some_and(|capability| {
                let net_admin = capability != Capability::NetAdmin || (tun && self.gateways());
                seen.insert(capability) && net_admin && self.ceiling.capabilities.contains(&capability)
            })
        })
    }

    fn network(&self, value: &Value) -> bool {
        let Some(id) = value.as_str() else {
            return false;
        };
        let full = crate::model::ContainerId::is_valid(id);
        full && self.given.is_none_or(|given| given.network == id)
    }

    fn endpoints(&self, value: &Value) -> bool {
        let Some(endpoints) = value.as_object() else {
            return false;
        };
        let mode = &self.body["HostConfig"]["NetworkMode"];
        endpoints.len() == 1
            && endpoints
                .keys()
                .all(|id| mode == id.as_str() && self.network(mode))
    }

    fn endpoint(&self) -> Option<Ipv4Addr> {
        let endpoints = self.body["NetworkingConfig"]["EndpointsConfig"].as_object();
        let endpoint = endpoints.and_then(|all| all.values().next())?;
        endpoint["IPAMConfig"]["IPv4Address"].as_str()?.parse().ok()
    }

    fn is_core(&self) -> bool {
        self.endpoint()
            .is_some_and(|address| self.ceiling.cell_network.contains(&address))
    }

    /// The bridge's own address in the network that the container's address is of.
    fn resolver(&self, value: &Value) -> bool {
        let resolver = self.endpoint().and_then(|address| self.ceiling.resolver(address));
        resolver.is_some_and(|resolver| *value == json!([resolver.to_string()]))
    }

    fn address(&self, value: &Value) -> bool {
        let address = value.as_str().and_then(|text| text.parse::<Ipv4Addr>().ok());
        address.is_some_and(|address| {
            self.ceiling.cell_network.contains(&address) || self.ceiling.service_networks.contains(&address)
        })
    }

    fn ports(&self, value: &Value) -> bool {
        let Some(ports) = value.as_object() else {
            return false;
        };
        ports.iter().all(|(key, bindings)| {
            let port = key.strip_suffix("/tcp").or_else(|| key.strip_suffix("/udp"));
            let known =
                port.is_some_and(|port| port.parse::<u16>().is_ok_and(|n| n > 0 && n.to_string() == port));
            let one = bindings.as_array().filter(|all| all.len() == 1);
            known && one.is_some_and(|all| self.binding(&all[0]))
        })
    }

    fn binding(&self, value: &Value) -> bool {
        let Some(binding) = value.as_object().filter(|binding| binding.len() == 2) else {
            return false;
        };
        let text = |key: &str| binding.get(key).and_then(Value::as_str);
        let address = text("HostIp").and_then(|ip| ip.parse::<IpAddr>().ok());
        let port =
            text("HostPort").and_then(|port| port.parse::<u16>().ok().filter(|n| n.to_string() == port));
        let (Some(address), Some(port)) = (address, port) else {
            return false;
        };
        let published = Published { address, port };
        port >= 1024
            && !address.is_unspecified()
            && self.ceiling.published.iter().any(|range| range.holds(published))
    }
}

fn within(value: &Value, least: u64, most: u64) -> bool {
    value.as_u64().is_some_and(|n| (least..=most).contains(&n))
}

fn strings(value: &Value) -> Option<Vec<&str>> {
    value.as_array()?.iter().map(Value::as_str).collect()
}

fn words(value: &Value, least: usize, most: usize) -> bool {
    strings(value).is_some_and(|words| {
        (least..=most).contains(&words.len()) && words.iter().all(|word| !word.contains(['\0', '\r', '\n']))
    })
}

fn keys(value: &Value) -> Option<Vec<&String>> {
    value.as_object().map(|object| object.keys().collect())
}

fn path(value: &Value) -> Option<AbsolutePath> {
    AbsolutePath::new(value.as_str()?).ok()
}

fn environment(value: &Value) -> bool {
    let entry = |text: &str| {
        text.split_once('=').is_some_and(|(key, value)| {
            let first = key
                .bytes()
                .next()
                .is_some_and(|b| b.is_ascii_uppercase() || b == b'_');
            let known = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            let loader = ["LD_", "GLIBC_", "DOCKER_"]
                .iter()
                .any(|prefix| key.starts_with(prefix));
            first
                && key.len() <= 64
                && key.bytes().all(known)
                && !loader
                && value.len() <= 8192
                && !value.contains(['\0', '\r', '\n'])
        })
    };
    strings(value).is_some_and(|all| all.len() <= 64 && all.iter().all(|text| entry(text)))
}

fn health_test(value: &Value) -> bool {
    *value == json!(["NONE"]) || (words(value, 2, 65) && value[0] == "CMD")
}

/// Exactly two, in this order: of two that contradict each other Docker takes the later.
fn security_options(value: &Value) -> bool {
    strings(value).is_some_and(|all| {
        all.len() == 2 && all[0] == "no-new-privileges" && all[1].strip_prefix("seccomp=") == Some(SECCOMP)
    })
}

fn ulimits(value: &Value) -> bool {
    let Some(all) = value.as_array() else {
        return false;
    };
    let names: BTreeSet<&str> = all.iter().filter_map(|limit| limit["Name"].as_str()).collect();
    let most = |limit: &Value| match limit["Name"].as_str() {
        Some("nofile") => 65_536,
        Some("nproc") => 4096,
        Some(_) | None => 0,
    };
    let bounded = |limit: &Value| {
        let (soft, hard) = (limit["Soft"].as_u64(), limit["Hard"].as_u64());
        soft <= hard && hard.is_some_and(|hard| hard <= most(limit))
    };
    all.len() == 3 && names == BTreeSet::from(["nofile", "nproc", "core"]) && all.iter().all(bounded)
}

fn log_bounds(value: &Value) -> bool {
    let Some(bounds) = value.as_object().filter(|bounds| bounds.len() == 2) else {
        return false;
    };
    let number = |key: &str, suffix: &str| {
        let text = bounds.get(key)?.as_str()?.strip_suffix(suffix)?;
        text.parse::<u32>().ok().filter(|n| n.to_string() == text)
    };
    number("max-size", "m").is_some_and(|mib| (1..=50).contains(&mib))
        && number("max-file", "").is_some_and(|files| (1..=5).contains(&files))
}
