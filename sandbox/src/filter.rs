//! The seccomp(2) filters: the lists of [`crate::calls`] compiled and put over every thread.

use std::collections::BTreeMap;
use std::io;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Compare,
    SeccompCondition, SeccompFilter, SeccompRule,
};

use crate::calls::{self, Family, Narrowed, Test};

/// What the filter lets through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    pub(crate) families: Vec<Family>,
    pub(crate) calls: Vec<c_long>,
    pub(crate) ioctls: Vec<u32>,
    pub(crate) messages: bool,
    /// Whether programs are started. Which, says Landlock.
    pub(crate) programs: bool,
}

/// Why the filters are not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// The lists do not compile, or this architecture is unknown.
    #[error(transparent)]
    Compile(#[from] BackendError),
    /// seccomp(2) refused.
    #[error("seccomp")]
    Install(#[source] io::Error),
    /// A thread is in the way of SECCOMP_FILTER_FLAG_TSYNC.
    #[error("thread {0} has a filter of its own")]
    Thread(c_long),
}

/// Puts the filters over all threads and answers how many calls are allowed. Whatever else is called returns EPERM; with
/// `log` the kernel's audit log names it too.
pub(crate) fn enter(allowed: &Allowed, log: bool) -> Result<usize, FilterError> {
    let rules = rules(allowed)?;
    let count = rules.len();
    let log = if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 };
    let permits = compile(
        rules,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
    )?;
    // The filter that is stricter wins, and of two equally strict the younger: clone3 is allowed by the list so that
    // this one's ENOSYS stands. It comes first, because the list does not allow seccomp(2).
    let no_clone3 = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    install(
        &compile(
            no_clone3,
            SeccompAction::Allow,
            SeccompAction::Errno(libc::ENOSYS as u32),
        )?,
        0,
    )?;
    install(&permits, log)?;
    Ok(count)
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn rules(allowed: &Allowed) -> Result<Rules, BackendError> {
    let mut rules = Rules::new();
    let narrowed = calls::narrowed(
        &allowed.families,
        &allowed.ioctls,
        allowed.messages,
        std::process::id(),
    );
    let of_programs = allowed.programs.then(calls::of_programs);
    let (plain_of_programs, narrowed_of_programs) = of_programs.unwrap_or_default();
    // In place of the forms that they have otherwise.
    for (call, ways) in narrowed.into_iter().chain(narrowed_of_programs) {
        rules.insert(call, conditions(&(call, ways))?);
    }
    let plain = [
        calls::PLAIN,
        calls::LEGACY,
        &calls::of_families(&allowed.families),
        &allowed.calls,
        &plain_of_programs,
        &[libc::SYS_clone3],
    ];
    // A call that is allowed without conditions is allowed in every form: extras widen what is narrowed.
    rules.extend(plain.concat().into_iter().map(|call| (call, Vec::new())));
    Ok(rules)
}

fn conditions((_, ways): &Narrowed) -> Result<Vec<SeccompRule>, BackendError> {
    let condition = |(argument, test): &(u8, Test)| match *test {
        Test::Is(value) => SeccompCondition::new(*argument, Width::Dword, Compare::Eq, value.into()),
        Test::Null => SeccompCondition::new(*argument, Width::Qword, Compare::Eq, 0),
        Test::Masked(mask, value) => SeccompCondition::new(
            *argument,
            Width::Dword,
            Compare::MaskedEq(mask.into()),
            value.into(),
        ),
    };
    ways.iter()
        .map(|way| SeccompRule::new(way.iter().map(condition).collect::<Result<_, _>>()?))
        .collect()
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?.try_into()
}

/// seccompiler's own installer knows no SECCOMP_FILTER_FLAG_LOG.
fn install(program: &BpfProgram, flags: libc::c_ulong) -> Result<(), FilterError> {
    let length = program
        .len()
        .try_into()
        .map_err(|_| FilterError::Install(io::ErrorKind::InvalidInput.into()))?;
    // The layouts of `sock_filter` in seccompiler and in libc are both the kernel's (linux/filter.h).
    let program = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: the kernel copies the `len` instructions at `filter`, which outlive the call, and writes nothing there.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_ulong::from(libc::SECCOMP_SET_MODE_FILTER),
            flags | libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    match rc {
        0 => Ok(()),
        -1 => Err(FilterError::Install(io::Error::last_os_error())),
        thread => Err(FilterError::Thread(thread)),
    }
}
