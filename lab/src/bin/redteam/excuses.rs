//! The lines that may be void on a machine, and why: each by its number, and only with the very answer that root got there.
//! A line that is void for any other reason fails the run: it was to be tried, and was not.

/// One line that is excused.
struct Excuse {
    id: &'static str,
    /// What root itself was told.
    control: &'static str,
    /// What of the machine makes it so.
    why: &'static str,
}

const EXCUSES: &[Excuse] = &[
    excuse("F18", "ENOENT", "this /proc has no sysrq-trigger"),
    excuse("F19", "EROFS", "root of this container sees /proc/sys read-only"),
    excuse(
        "G47",
        "void: iptables or ipset is missing",
        "iptables or ipset is not installed",
    ),
    excuse("K11", "EPERM", "the container's own filter keeps root from it"),
    excuse("P07", "EPERM", "the container's own filter keeps root from it"),
    excuse("K14", "ENOSYS", "this kernel loads no modules"),
    excuse("K14", "EPERM", "root of this container may load no module"),
    excuse("K17", "EPERM", "root of this container may not set the clock"),
    excuse("K18", "EPERM", "root of this container lacks CAP_SYS_RESOURCE"),
    excuse("P08", "EPERM", "root of this container lacks CAP_SYS_RESOURCE"),
];

const fn excuse(id: &'static str, control: &'static str, why: &'static str) -> Excuse {
    Excuse { id, control, why }
}

/// Why line `id` proves nothing where root was told `control`; `None` where it must prove something.
pub fn why(id: &str, control: &str) -> Option<&'static str> {
    EXCUSES
        .iter()
        .find(|excuse| excuse.id == id && excuse.control == control)
        .map(|excuse| excuse.why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_answer_excuses() {
        assert!(why("K14", "ENOSYS").is_some());
        assert_eq!(why("K14", "EACCES"), None);
        assert_eq!(why("S01", "ENOENT"), None);
    }
}
