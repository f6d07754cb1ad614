//! cell-iptables, which answers netd alone, whatever the file system lets connect.

use anyhow::{Context, Result};
use cell_launch::accounts::Accounts;
use cell_launch::house::Daemon;
use cell_sandbox::identity::Identity;
use tonic::Code;

use super::raw::call;
use super::{answers, refused, run, worst};
use crate::attempt::{Outcome, in_child};
use crate::restorer::{self, MISSING, SOCKET};
use crate::target::{Target, attacker};

const SAVE: &str = "/cell.iptables.v1.RulesetService/SaveRuleset";

/// G47. Control: netd's user is given the rules. Attack: the user `cell-api`, were it in the group of the edge, and root.
///
/// # Errors
/// When an attempt cannot be made, or there is no such user.
pub fn rules(target: &Target) -> Result<(Outcome, Outcome)> {
    if !restorer::has_programs() {
        let missing = || Outcome::Void(MISSING.to_owned());
        return Ok((missing(), missing()));
    }
    let netd = Accounts::look_up()?.identity(Daemon::Netd)?;
    let mut strayed = attacker()?;
    strayed.groups.clone_from(&netd.groups);
    let asked = || run(async { answers(call(target.socket(SOCKET), SAVE, Vec::new()).await) });
    let control = in_child(|| enter(&netd), asked)?;
    if control != Outcome::Open {
        return Ok((control.clone(), control));
    }
    let refusal = || {
        let asking = async { call(target.socket(SOCKET), SAVE, Vec::new()).await };
        run(async { refused(asking.await, &[Code::PermissionDenied]) })
    };
    let by_api = in_child(|| enter(&strayed), refusal)?;
    let by_root = in_child(|| Ok(()), refusal)?;
    // It must outlive them.
    let after = in_child(|| enter(&netd), asked)?;
    Ok((after, worst([by_api, by_root])))
}

fn enter(identity: &Identity) -> Result<()> {
    identity.assume(&[]).context("assume")
}
