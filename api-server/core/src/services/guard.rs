//! Which services need which others.

use std::collections::BTreeSet;

/// A service as others depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it is called.
    pub service: String,
    /// Its manifest's id.
    pub id: String,
    /// Whether others may count on it.
    pub is_there: bool,
    /// Ids that it needs.
    pub requires: BTreeSet<String>,
}

/// Ids that are needed and that no service of them is there.
pub fn missing(requires: &BTreeSet<String>, all: &[Standing]) -> Vec<String> {
    let is_there = |id: &&String| all.iter().any(|one| one.is_there && one.id == **id);
    requires.iter().filter(|id| !is_there(id)).cloned().collect()
}

/// Services that would lack what they need without this one. Another instance of its id is as good.
pub fn dependants(service: &str, all: &[Standing]) -> Vec<String> {
    let Some(own) = all.iter().find(|one| one.service == service) else {
        return Vec::new();
    };
    let another = |one: &Standing| one.id == own.id && one.service != service && one.is_there;
    if all.iter().any(another) {
        return Vec::new();
    }
    let needs = |one: &&Standing| one.service != service && one.requires.contains(&own.id);
    all.iter().filter(needs).map(|one| one.service.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(service: &str, id: &str, is_there: bool, requires: &[&str]) -> Standing {
        Standing {
            service: service.to_owned(),
            id: id.to_owned(),
            is_there,
            requires: requires.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_needed_is_named() {
        let all = [
            standing("email", "email", true, &[]),
            standing("webmail", "webmail", true, &["email"]),
            standing("files-a", "files", false, &[]),
        ];
        let needs = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect();
        assert_eq!(missing(&needs(&["email"]), &all), Vec::<String>::new());
        assert_eq!(missing(&needs(&["email", "files", "x"]), &all), ["files", "x"]);
        assert_eq!(dependants("email", &all), ["webmail"]);
        assert_eq!(dependants("webmail", &all), Vec::<String>::new());
        assert_eq!(dependants("nobody", &all), Vec::<String>::new());
    }

    #[test]
    fn another_instance_is_as_good() {
        let mut all = vec![
            standing("db-a", "db", true, &[]),
            standing("db-b", "db", true, &[]),
            standing("app", "app", true, &["db"]),
        ];
        assert_eq!(dependants("db-a", &all), Vec::<String>::new());
        all[1].is_there = false;
        assert_eq!(dependants("db-a", &all), ["app"]);
    }
}
