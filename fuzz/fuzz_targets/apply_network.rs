//! What a taken-over `cell-api` may send netd as a whole spec, under the policy file that is shipped.
#![no_main]

use std::sync::LazyLock;

use cell_iptables_core::{Family, judge_rules, judge_sets};
use cell_netd::config::Config;
use cell_netd::proto::{from_desired, network_spec};
use cell_netd_core::model;
use cell_netd_core::policy::iptables::{self, Stage};
use cell_netd_core::policy::{Ruleset, compile, render, shut};
use cell_netd_core::validate::validate;
use cell_netd_core::{Ceiling, routing};
use cell_proto::netd::v1::ApplyNetworkRequest;
use cell_proto::strict::unknown_field;
use libfuzzer_sys::fuzz_target;
use prost::Message;

static CEILING: LazyLock<Ceiling> = LazyLock::new(|| {
    let policy = include_str!("../../systemd/etc/netd.toml");
    let uids = |user: &str| Some(user.bytes().map(u32::from).sum());
    Config::parse(policy, uids).expect("the shipped policy").ceiling
});

/// The other renderer's words: cell-iptables takes them, and the sets are read back as what they were made of.
fn in_iptables(ruleset: &Ruleset) {
    // What it cannot say it refuses by name.
    let Ok(stages) = iptables::replace(&iptables::Saved::default(), ruleset) else { return };
    for stage in &stages {
        let taken = match stage {
            Stage::Sets(text) => judge_sets(text),
            Stage::Rules(model::Family::V4, text) => judge_rules(text, Family::V4),
            Stage::Rules(model::Family::V6, text) => judge_rules(text, Family::V6),
        };
        assert_eq!(taken, Ok(()), "{stage:?}");
    }
    if let Ok(mask) = iptables::mask(ruleset) {
        let members = iptables::encode(&ruleset.elements, mask);
        assert_eq!(iptables::decode(&members, mask).as_ref(), Some(&ruleset.elements));
    }
}

fuzz_target!(|input: &[u8]| {
    if unknown_field("cell.netd.v1.ApplyNetworkRequest", input).is_some() {
        return;
    }
    let Ok(request) = ApplyNetworkRequest::decode(input) else { return };
    let Some(spec) = request.spec else { return };
    match validate(&network_spec(spec), &CEILING, None) {
        Err(rejection) => assert!(!rejection.violations().is_empty(), "a refusal names a fault"),
        Ok(desired) => {
            let told = validate(&network_spec(from_desired(&desired)), &CEILING, None);
            assert_eq!(told.as_ref(), Ok(&desired), "what is told is what was accepted");
            let ruleset = compile(&desired, &CEILING, &Default::default());
            if desired.wireguard().is_none() {
                let closed = shut(&CEILING, &Default::default());
                assert_eq!(ruleset, closed, "without an interface the bridges of services are closed");
            }
            assert!(ruleset.is_some(), "under a ceiling with services something always stands");
            let _text = ruleset.as_ref().map(render);
            ruleset.iter().for_each(in_iptables);
            let _routing = routing::wanted(&desired, &CEILING, &Default::default());
        }
    }
});
