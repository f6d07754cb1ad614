//! cell-iptables with its sandbox and the real programs, in a namespace: what it does, and what it does not.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;

use anyhow::Result;
use cell_lab::legacy::Restorer;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_proto::fault::reason;
use cell_proto::ipc;
use cell_proto::iptables::v1;
use cell_proto::iptables::v1::restore_ruleset_request::Text;
use cell_proto::iptables::v1::ruleset_service_client::RulesetServiceClient;
use tokio::runtime::Runtime;
use tonic::{Code, Status};

const NOBODY: u32 = 65534;

struct Setup {
    namespace: Namespace,
    runtime: Runtime,
    restorer: Restorer,
    _folder: tempfile::TempDir,
}

impl Setup {
    fn new(caller: &str) -> Result<Self> {
        use std::os::unix::fs::PermissionsExt as _;
        let namespace = Namespace::new("legacy")?;
        let folder = tempfile::tempdir()?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let restorer = Restorer::start(&namespace, folder.path(), NOBODY, caller)?;
        Ok(Setup {
            namespace,
            runtime: Runtime::new()?,
            restorer,
            _folder: folder,
        })
    }

    fn restore(&self, text: Text) -> Result<(), Status> {
        self.runtime.block_on(async {
            let mut client = RulesetServiceClient::new(ipc::connect(&self.restorer.socket));
            let request = v1::RestoreRulesetRequest { text: Some(text) };
            client.restore_ruleset(request).await.map(drop)
        })
    }

    fn save(&self, headers_only: bool) -> Result<v1::SaveRulesetResponse, Status> {
        self.runtime.block_on(async {
            let mut client = RulesetServiceClient::new(ipc::connect(&self.restorer.socket));
            let request = v1::SaveRulesetRequest { headers_only };
            Ok(client.save_ruleset(request).await?.into_inner())
        })
    }
}

fn sets() -> Text {
    Text::Sets(
        "create CELL-a hash:ip family inet maxelem 64 skbinfo\nadd CELL-a 10.0.0.1 skbmark 0x10/0x10\n\
                create CELL-b hash:ip,port family inet6 maxelem 64\nadd CELL-b fd00::1,tcp:80\n"
            .to_owned(),
    )
}

fn rules(hook: &str) -> String {
    format!(
        "*mangle\n:CELL-x - [0:0]\n-A CELL-x -p tcp -m tcp --dport 80 -j DROP\n-I {hook} 1 -j CELL-x\nCOMMIT\n"
    )
}

#[test]
fn texts_of_ours_are_restored_and_saved() -> Result<()> {
    let setup = Setup::new("root")?;
    until(std::time::Duration::from_secs(10), "it answers", || {
        setup.save(true).ok()
    })?;
    setup.restore(sets())?;
    setup.restore(Text::RulesV4(rules("FORWARD")))?;
    setup.restore(Text::RulesV6(rules("INPUT")))?;
    let saved = setup.save(false)?;
    assert!(
        saved.sets.contains("add CELL-a 10.0.0.1 skbmark 0x10/0x10\n"),
        "{}",
        saved.sets
    );
    assert!(
        saved.sets.contains("add CELL-b fd00::1,tcp:80\n"),
        "{}",
        saved.sets
    );
    assert!(
        saved.rules_v4.contains("] -A FORWARD -j CELL-x\n"),
        "{}",
        saved.rules_v4
    );
    assert!(
        saved.rules_v6.contains("] -A INPUT -j CELL-x\n"),
        "{}",
        saved.rules_v6
    );
    let headers = setup.save(true)?;
    assert_eq!(headers.entries, [1, 1]);
    assert!(
        headers.sets.starts_with("create CELL-a hash:ip family inet"),
        "{}",
        headers.sets
    );
    // What the machine's own programs see is the same.
    let seen = setup.namespace.run("iptables-legacy-save", &["-t", "mangle"])?;
    assert!(
        seen.contains("-A CELL-x -p tcp -m tcp --dport 80 -j DROP"),
        "{seen}"
    );
    Ok(())
}

#[test]
fn what_is_not_ours_reaches_no_program() -> Result<()> {
    let setup = Setup::new("root")?;
    setup.restore(sets())?;
    setup.namespace.run("iptables-legacy", &["-N", "OTHER"])?;
    setup.namespace.run("ipset", &["create", "f2b", "hash:ip"])?;
    for (text, field) in [
        (
            Text::RulesV4("*filter\n-A INPUT -j ACCEPT\nCOMMIT\n".into()),
            "rules_v4",
        ),
        (
            Text::RulesV4("*filter\n:OTHER - [0:0]\nCOMMIT\n".into()),
            "rules_v4",
        ),
        (
            Text::RulesV6("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n".into()),
            "rules_v6",
        ),
        (Text::Sets("destroy f2b\n".into()), "sets"),
        (Text::Sets("save -file /tmp/x\n".into()), "sets"),
    ] {
        let before = setup.namespace.run("iptables-legacy-save", &["-t", "filter"])?;
        let refusal = setup.restore(text).unwrap_err();
        assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
        assert_eq!(reason(&refusal).as_deref(), Some("NOT_OURS"), "{field}");
        let strip = |text: String| -> Vec<String> {
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            lines.map(str::to_owned).collect()
        };
        let after = setup.namespace.run("iptables-legacy-save", &["-t", "filter"])?;
        assert_eq!(strip(before), strip(after));
    }
    assert!(setup.namespace.run("ipset", &["list", "-n"])?.contains("f2b"));
    // Others' are not told either.
    assert!(!setup.save(false)?.sets.contains("f2b"));
    // What the programs refuse is told in their words, and what stood before the fault of a table is not in force.
    let unknown = "*mangle\n:CELL-y - [0:0]\n-A CELL-y -j CELL-nowhere\nCOMMIT\n";
    let refusal = setup.restore(Text::RulesV4(unknown.into())).unwrap_err();
    assert_eq!(reason(&refusal).as_deref(), Some("RESTORE_FAILED"), "{refusal}");
    assert!(!setup.save(false)?.rules_v4.contains("CELL-y"));
    Ok(())
}

#[test]
fn whom_it_is_not_for_is_refused_before_the_message() -> Result<()> {
    let setup = Setup::new("daemon")?;
    let refusal = setup.restore(sets()).unwrap_err();
    assert_eq!(refusal.code(), Code::PermissionDenied, "{refusal}");
    assert_eq!(reason(&refusal).as_deref(), Some("CALLER_UNKNOWN_USER"));
    assert_eq!(setup.namespace.run("ipset", &["list", "-n"])?.trim(), "");
    Ok(())
}

#[test]
fn its_programs_are_where_it_looks_for_them() {
    for program in [cell_iptables::program::IPTABLES, cell_iptables::program::IPSET] {
        let at = Path::new(program);
        assert!(
            at.is_file() && !at.is_symlink(),
            "{program}: Landlock is told of files, not of links"
        );
    }
}
