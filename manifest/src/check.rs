//! From what is written to what is right: every fault of a manifest at once.

mod container;

use std::collections::{BTreeMap, BTreeSet};

use crate::container::{Container, Protocol, Source};
use crate::exits::EXITS;
use crate::field::{Field, Kind, Pattern};
use crate::manifest::{Accounts, Backend, Backup, CONTAINERS_MAX, Content, Egress, Flags, Purpose, Routing};
use crate::name::Name;
use crate::path::BelowRoot;
use crate::rule::{Faults, Gather, Rule};
use crate::secret::{self, SecretName};
use crate::wire;

pub(crate) fn manifest(written: wire::Manifest) -> Result<Content, Faults> {
    let mut gather = Gather::default();
    gather.must(written.schema_version == 3, "schema_version", Rule::S4, "is 3");
    gather.must(
        !written.flags.has_api_hooks,
        "flags.has_api_hooks",
        Rule::S4,
        "is reserved: false",
    );
    for (path, text, longest) in [
        ("name", &written.name, 64),
        ("description", &written.description, 1000),
        ("author", &written.author, 100),
    ] {
        let good = text.len() <= longest && Pattern::Printable.takes(text);
        gather.must(good, path, Rule::S4, "is short text without control characters");
    }
    gather.must(
        version(&written.version),
        "version",
        Rule::S4,
        "is numbers with dots, e.g. 1.4.2",
    );
    let content = whole(&mut gather, written);
    gather.finish(content)
}

fn whole(gather: &mut Gather, written: wire::Manifest) -> Option<Content> {
    let purpose = match written.kind.as_str() {
        "store" => Some(Purpose::Store),
        "core" => Some(Purpose::Core),
        _ => {
            gather.add("kind", Rule::S4, "is store or core");
            None
        }
    };
    let id = name(gather, "id", &written.id);
    if id.as_ref().is_some_and(Name::is_reserved) {
        gather.add("id", Rule::S2, "is not one of api, webui, admin, cell, network");
    }
    let config_schema = fields(gather, written.config_schema);
    let containers = containers(gather, written.containers, &config_schema);
    let routing = written
        .routing
        .and_then(|routing| self::routing(gather, routing, &containers));
    let accounts = written
        .accounts
        .and_then(|accounts| self::accounts(gather, accounts, &containers));
    let backup = written
        .backup
        .and_then(|backup| self::backup(gather, backup, &containers));
    let egress = written.egress.and_then(|egress| self::egress(gather, egress));
    let requires = written.requires.iter().enumerate();
    let requires = requires
        .filter_map(|(n, required)| name(gather, &format!("requires[{n}]"), required))
        .collect::<BTreeSet<_>>();
    if let Some(id) = &id {
        gather.must(
            !requires.contains(id),
            "requires",
            Rule::S4,
            "does not name the service itself",
        );
    }
    let content = Content {
        purpose: purpose?,
        id: id?,
        title: written.name,
        description: written.description,
        version: written.version,
        author: written.author,
        flags: flags(&written.flags),
        instanceable: written.instanceable,
        config_schema,
        containers,
        routing,
        accounts,
        backup,
        egress,
        requires,
    };
    fit(gather, &content);
    Some(content)
}

/// What the flags say and what is there are one.
fn fit(gather: &mut Gather, content: &Content) {
    let storage = content
        .containers
        .iter()
        .flat_map(|container| &container.mounts)
        .any(|mount| !matches!(mount.source, Source::Tmpfs { .. }));
    let flags = content.flags;
    for (flag, is, there) in [
        ("has_subdomain", flags.has_subdomain, content.routing.is_some()),
        ("has_accounts", flags.has_accounts, content.accounts.is_some()),
        (
            "has_admin_config",
            flags.has_admin_config,
            !content.config_schema.is_empty(),
        ),
        ("has_storage", flags.has_storage, storage),
        ("has_egress", flags.has_egress, content.egress.is_some()),
    ] {
        let path = format!("flags.{flag}");
        gather.must(
            is == there,
            &path,
            Rule::S4,
            "says what the manifest has, no more and no less",
        );
    }
    secrets(gather, content);
    let nameless = content.accounts.as_ref().is_some_and(|it| it.certificate) && content.routing.is_none();
    gather.must(
        !nameless,
        "accounts.certificate",
        Rule::S4,
        "is for services with names (routing)",
    );
    let core_egress = content.purpose == Purpose::Core && content.egress.is_some();
    gather.must(!core_egress, "egress", Rule::S4, "is for services of the store");
    let core_instances = content.purpose == Purpose::Core && content.instanceable;
    gather.must(
        !core_instances,
        "instanceable",
        Rule::S4,
        "is for services of the store",
    );
    let core_several = content.purpose == Purpose::Core && content.containers.len() > 1;
    gather.must(!core_several, "containers", Rule::S4, "is one where kind is core");
}

/// Fields that are secrets name one of a container's; all containers say the same of one.
fn secrets(gather: &mut Gather, content: &Content) {
    let used = secret::used(&content.containers);
    for (name, _) in content.config_schema.iter().filter(|(_, field)| field.is_secret) {
        let found = SecretName::try_from(name.as_str()).ok();
        let found = found.and_then(|name| used.get(&name));
        let path = format!("config_schema.{name}");
        gather.must(
            found.is_some(),
            &path,
            Rule::S4,
            "is the name of a secret of a container",
        );
        let set = found.is_none_or(|found| found.generate.is_none());
        gather.must(set, &path, Rule::S4, "is no secret that the vault makes");
    }
    for (n, container) in content.containers.iter().enumerate() {
        for (m, secret) in container.secrets.iter().enumerate() {
            let same = used
                .get(&secret.name)
                .is_none_or(|found| found.generate == secret.generate);
            let path = format!("containers[{n}].secrets[{m}].generate");
            gather.must(same, &path, Rule::S4, "is the same for all that name this secret");
        }
    }
}

fn flags(written: &wire::Flags) -> Flags {
    Flags {
        has_subdomain: written.has_subdomain,
        has_accounts: written.has_accounts,
        has_admin_config: written.has_admin_config,
        has_storage: written.has_storage,
        has_egress: written.has_egress,
    }
}

fn version(text: &str) -> bool {
    let number = |part: &str| (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    (1..=4).contains(&text.split('.').count()) && text.split('.').all(number)
}

fn name(gather: &mut Gather, path: &str, text: &str) -> Option<Name> {
    gather.take(path, Rule::S2, Name::try_from(text))
}

/// A name that a proxy and DNS will know.
fn host(gather: &mut Gather, path: &str, text: &str) -> Option<Name> {
    let name = name(gather, path, text)?;
    gather.must(
        !name.is_reserved(),
        path,
        Rule::S2,
        "is not one of api, webui, admin, cell, network",
    );
    Some(name)
}

fn fields(gather: &mut Gather, written: BTreeMap<String, wire::Field>) -> BTreeMap<String, Field> {
    gather.must(
        written.len() <= 32,
        "config_schema",
        Rule::J2,
        "has at most 32 fields",
    );
    let mut fields = BTreeMap::new();
    for (n, (key, field)) in written.into_iter().enumerate() {
        let good = (1..=32).contains(&key.len())
            && key
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        let path = if good {
            format!("config_schema.{key}")
        } else {
            let path = format!("config_schema[{n}]");
            gather.add(
                &path,
                Rule::S3,
                "has a name of 1-32 characters of a-z, 0-9 and underscore",
            );
            path
        };
        if let Some(field) = self::field(gather, &path, field) {
            fields.insert(key, field);
        }
    }
    fields
}

fn field(gather: &mut Gather, path: &str, written: wire::Field) -> Option<Field> {
    let kind = kind(gather, path, &written)?;
    let good = written.label.len() <= 100 && Pattern::Printable.takes(&written.label);
    gather.must(
        good,
        path,
        Rule::S3,
        "has a short label without control characters",
    );
    let default = match written.default {
        None => None,
        Some(serde_json::Value::String(text)) => Some(text),
        Some(value @ (serde_json::Value::Bool(_) | serde_json::Value::Number(_))) => Some(value.to_string()),
        Some(serde_json::Value::Null | serde_json::Value::Array(_) | serde_json::Value::Object(_)) => {
            gather.add(
                path,
                Rule::S3,
                "has a default that is a text, a number or a boolean",
            );
            None
        }
    };
    if written.secret {
        gather.must(
            matches!(kind, Kind::Text { .. }) && default.is_none(),
            path,
            Rule::S3,
            "is a string without a default where it is a secret",
        );
    }
    if default.as_ref().is_some_and(|value| !kind.takes(value)) {
        gather.add(path, Rule::S3, format!("has a default that {}", kind.words()));
    }
    Some(Field {
        label: written.label,
        kind,
        default,
        is_secret: written.secret,
    })
}

fn kind(gather: &mut Gather, path: &str, written: &wire::Field) -> Option<Kind> {
    let wire::Field {
        min,
        max,
        pattern,
        max_length,
        values,
        ..
    } = written;
    let kind = match (written.r#type.as_str(), min, max, pattern, max_length, values) {
        ("integer", Some(min), Some(max), None, None, None) if min <= max => {
            Some(Kind::Integer { min: *min, max: *max })
        }
        ("boolean", None, None, None, None, None) => Some(Kind::Boolean),
        ("string", None, None, Some(pattern), Some(longest @ 1..=4096), None) => {
            let max_length = usize::try_from(*longest).unwrap_or(4096);
            Pattern::from_word(pattern).map(|pattern| Kind::Text { pattern, max_length })
        }
        ("enum", None, None, None, None, Some(values)) => {
            let words = values
                .iter()
                .all(|value| value.len() <= 64 && Pattern::Word.takes(value));
            ((1..=64).contains(&values.len()) && words).then(|| Kind::Choice {
                values: values.clone(),
            })
        }
        _ => None,
    };
    if kind.is_none() {
        let right = "is of a type with its range and nothing else: integer with min and max; boolean; string with pattern \
                     (label, hostname, word, email, printable) and max_length of 1-4096; enum with values, 1-64 words";
        gather.add(path, Rule::S3, right);
    }
    kind
}

fn containers(
    gather: &mut Gather,
    written: Vec<wire::Container>,
    fields: &BTreeMap<String, Field>,
) -> Vec<Container> {
    let count = (1..=CONTAINERS_MAX).contains(&written.len());
    gather.must(count, "containers", Rule::J2, "are 1-8");
    let (mut names, mut found) = (BTreeSet::new(), Vec::new());
    for (n, container) in written.into_iter().take(CONTAINERS_MAX).enumerate() {
        let path = format!("containers[{n}]");
        if !names.insert(container.name.clone()) {
            gather.add(&format!("{path}.name"), Rule::N5, "is another for each container");
        }
        found.extend(self::container::container(gather, &path, container, fields));
    }
    found
}

fn backend(gather: &mut Gather, path: &str, text: &str, containers: &[Container]) -> Option<Backend> {
    let parts = text.split_once(':').and_then(|(container, port)| {
        let port = port.parse::<u16>().ok().filter(|n| n.to_string() == port)?;
        Some((Name::try_from(container).ok()?, port))
    });
    let Some((container, port)) = parts else {
        gather.add(path, Rule::S2, "is CONTAINER:PORT");
        return None;
    };
    let listens = containers.iter().any(|known| {
        let tcp = |p: &crate::container::Port| p.port == port && p.protocol == Protocol::Tcp;
        known.name == container && known.ports.iter().any(tcp)
    });
    gather.must(
        listens,
        path,
        Rule::S4,
        "names a container of this manifest and one of its TCP ports",
    );
    Some(Backend { container, port })
}

fn routing(gather: &mut Gather, written: wire::Routing, containers: &[Container]) -> Option<Routing> {
    let subdomain = host(gather, "routing.subdomain", &written.subdomain);
    let main = backend(gather, "routing.backend", &written.backend, containers);
    let mut extra = BTreeMap::new();
    let count = written.extra_subdomains.len() <= 8 && written.extra_backends.len() <= 8;
    gather.must(count, "routing", Rule::J2, "has at most 8 more names");
    for (n, text) in written.extra_subdomains.iter().enumerate().take(8) {
        let path = format!("routing.extra_subdomains[{n}]");
        let name = host(gather, &path, text);
        let backend = match written.extra_backends.get(text) {
            Some(other) => backend(gather, &format!("routing.extra_backends[{n}]"), other, containers),
            None => main.clone(),
        };
        if let (Some(name), Some(backend)) = (name, backend)
            && (subdomain.as_ref() == Some(&name) || extra.insert(name, backend).is_some())
        {
            gather.add(&path, Rule::S2, "is another for each");
        }
    }
    let unnamed = written
        .extra_backends
        .keys()
        .all(|key| written.extra_subdomains.contains(key));
    gather.must(
        unnamed,
        "routing.extra_backends",
        Rule::S4,
        "are of names in extra_subdomains",
    );
    Some(Routing {
        subdomain: subdomain?,
        backend: main?,
        extra,
    })
}

fn accounts(gather: &mut Gather, written: wire::Accounts, containers: &[Container]) -> Option<Accounts> {
    let backend = backend(gather, "accounts.backend", &written.backend, containers);
    let clean = written
        .path
        .strip_prefix('/')
        .is_some_and(|path| BelowRoot::new(path).is_ok());
    gather.must(
        clean,
        "accounts.path",
        Rule::S2,
        "is a clean path that starts with a slash",
    );
    Some(Accounts {
        backend: backend?,
        path: written.path,
        certificate: written.certificate,
    })
}

fn backup(gather: &mut Gather, written: wire::Backup, containers: &[Container]) -> Option<Backup> {
    gather.must(
        (1..=16).contains(&written.paths.len()),
        "backup.paths",
        Rule::J2,
        "are 1-16",
    );
    let mut paths = Vec::new();
    for (n, entry) in written.paths.iter().enumerate().take(16) {
        let path = format!("backup.paths[{n}]");
        let Some(volume) = name(gather, &path, &entry.volume) else {
            continue;
        };
        let mounted = containers.iter().flat_map(|container| &container.mounts);
        let known = mounted
            .into_iter()
            .any(|mount| mount.source == Source::Volume(volume.clone()));
        gather.must(known, &path, Rule::S4, "names a volume that a container mounts");
        if let Some(below) = gather.take(&path, Rule::M6, BelowRoot::new(&entry.path)) {
            paths.push((volume, below));
        }
    }
    Some(Backup { paths })
}

fn egress(gather: &mut Gather, written: wire::Egress) -> Option<Egress> {
    let known = written.allowed.iter().all(|kind| EXITS.contains(&kind.as_str()));
    let right = known && !written.allowed.is_empty();
    gather.must(
        right,
        "egress.allowed",
        Rule::S4,
        "are one or more kinds of exits",
    );
    let default = written
        .default
        .as_ref()
        .is_none_or(|kind| written.allowed.contains(kind));
    gather.must(default, "egress.default", Rule::S4, "is one of those allowed");
    Some(Egress {
        allowed: written.allowed.into_iter().collect(),
        default: written.default,
    })
}
