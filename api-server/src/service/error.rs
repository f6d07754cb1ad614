//! Every way to be refused, and what each is called outside. One table serves REST and gRPC.

use cell_api_core::access::MAX_SERVICES_IN_ALL;
use cell_api_core::connection::{self, allocation};
use cell_api_core::fault::Faults;
use cell_api_core::peer::MAX_PEERS;
use cell_api_core::range::Exhausted;
use cell_api_core::service_network;
use cell_api_core::services;
use cell_api_core::services::accounts::MOST;
use cell_api_core::setup::Step;

/// A refusal.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The request has faults.
    #[error("the request has faults")]
    Invalid(#[from] Faults),
    /// Setup is not complete.
    #[error("setup is not complete")]
    SetupRequired,
    /// Setup is over.
    #[error("setup is complete; its answers cannot be changed here")]
    SetupComplete,
    /// Not all steps have been answered.
    #[error("steps are missing: {}", .0.iter().map(|s| s.as_str()).collect::<Vec<_>>().join(", "))]
    SetupIncomplete(Vec<Step>),
    /// No such step.
    #[error("there is no such step")]
    NoStep,
    /// The claim token is wrong or missing.
    #[error("the claim token is wrong or missing; it is in the file claim-token in the cell's state folder")]
    ClaimToken,
    /// The claim must come first.
    #[error("the claim step must be answered first")]
    NotClaimed,
    /// Wrong name or password; which of the two is not told.
    #[error("the name or the password is wrong")]
    Login,
    /// The account is locked.
    #[error("too many failed logins: the account is locked for {0} more seconds")]
    Locked(u64),
    /// The address failed too often.
    #[error("too many failures from this address: try again in {0} seconds")]
    Throttled(u64),
    /// The password that should hold now is wrong.
    #[error("the current password is wrong")]
    WrongPassword,
    /// The session ended while something was done in it.
    #[error("the session has ended, or the password was set anew: log in again")]
    SessionEnded,
    /// A user of that name is there.
    #[error("there is a user of this name")]
    UserExists,
    /// No such user.
    #[error("there is no user of this name")]
    NoUser,
    /// The last administrator cannot go.
    #[error("this is the last administrator")]
    LastAdmin,
    /// A peer of that name is there.
    #[error("there is a peer of this name")]
    PeerExists,
    /// The key belongs to another peer or to the cell.
    #[error("the public key is another peer's or the cell's own")]
    KeyInUse,
    /// It is another than the caller has seen.
    #[error("it was changed meanwhile: read it again")]
    Stale,
    /// No such peer.
    #[error("there is no peer of this name")]
    NoPeer,
    /// The range is full.
    #[error(transparent)]
    AddressesExhausted(#[from] Exhausted),
    /// There are as many peers as there may be.
    #[error("there are {MAX_PEERS} peers, which is the most: remove some that are not used any more")]
    TooManyPeers,
    /// All peers together have as many services as there may be.
    #[error(
        "all peers together have {MAX_SERVICES_IN_ALL} services, which is the most: take some away first"
    )]
    TooManyServices,
    /// A connection of that name is there.
    #[error("there is a connection of this name")]
    ConnectionExists,
    /// No such connection.
    #[error("there is no connection of this id")]
    NoConnection,
    /// Nothing carries connections of this type yet.
    #[error("a device cannot be bound to a connection of type {0}: nothing in this cell carries it yet")]
    ExitNotCarried(connection::kind::Kind),
    /// Containers of the service have no route out of their network.
    #[error(
        "containers of {service} have no way out of their network, so that nothing can carry them to the internet: {manifest} has no \
         egress. Leave it without a way (connection_id null), or ask its author for a version whose manifest has egress"
    )]
    NoWayOut {
        /// The service.
        service: String,
        /// Whose manifest.
        manifest: &'static str,
    },
    /// Containers of the service have no route out of their network, to whatever is granted to them.
    #[error(
        "containers of {0} have no way out of their network, so that nothing beyond it can be granted to them: its manifest has no egress. \
         Ask its author for a version whose manifest has it"
    )]
    NoReach(String),
    /// The service does not take exits of this type.
    #[error(
        "{service} cannot go out through a connection of type {kind}: {manifest} allows {} alone (egress.allowed). Choose one of these \
         first, the cell's own way (direct), or none", words(.allowed)
    )]
    ExitNotAllowed {
        /// The service.
        service: String,
        /// Whose manifest.
        manifest: &'static str,
        /// The type.
        kind: connection::kind::Kind,
        /// Those that it takes.
        allowed: Vec<connection::kind::Kind>,
    },
    /// No network of a service of that name.
    #[error("there is no network of a service of this name")]
    NoServiceNetwork,
    /// There is no room for another network of a service.
    #[error(transparent)]
    NoServiceRoom(#[from] service_network::NoRoom),
    /// No service of that name is installed.
    #[error("no service of this name is installed")]
    NoService,
    /// No alert of that number.
    #[error("there is no alert of this number: it is over, or never was")]
    NoAlert,
    /// A service of that name is installed.
    #[error("a service of this name is installed already")]
    ServiceInstalled,
    /// The catalog does not have it.
    #[error("the catalog has no service of this id")]
    NotInCatalog,
    /// The catalog has it, and it cannot be used.
    #[error("the catalog's manifest of this service cannot be used: {}", .0.join("; "))]
    CatalogFault(Vec<String>),
    /// The catalog cannot be read.
    #[error("the catalog cannot be read: {0}")]
    NoCatalog(String),
    /// No remote catalog of that name.
    #[error("there is no remote catalog of this name")]
    NoRemoteCatalog,
    /// One of that name or address is there.
    #[error("there is a remote catalog of this name, or of this address")]
    RemoteCatalogExists,
    /// There are as many as there may be.
    #[error(
        "there are {} remote catalogs, which is the most: remove one first",
        services::remote::CATALOGS_MAX
    )]
    TooManyRemoteCatalogs,
    /// Something is being done with the service.
    #[error(transparent)]
    ServiceNotNow(#[from] services::phase::NotNow),
    /// Services that it needs are not there.
    #[error("it needs services that are not installed: install these first: {}", .0.join(", "))]
    ServiceRequires(Vec<String>),
    /// The service knows no accounts.
    #[error("{0} has no accounts: whoever may reach it may use it")]
    NoAccounts(String),
    /// No such account.
    #[error("the service has no account of this name")]
    NoAccount,
    /// There is one of that name.
    #[error("there is an account of this name at {0} already, or one is being removed: choose another user")]
    AccountExists(String),
    /// There are as many accounts as there may be.
    #[error("there are {MOST} accounts, which is the most: remove some that are not used any more")]
    TooManyAccounts,
    /// Its interface for accounts does not answer.
    #[error("accounts of {service} cannot be changed now: {why}")]
    AccountsAway {
        /// The service.
        service: String,
        /// Why, in words.
        why: String,
    },
    /// As many wait for its accounts as may.
    #[error(
        "accounts of {0} are being changed by others, and it is slow to answer: nothing was done, try again in a minute"
    )]
    AccountsBusy(String),
    /// Its interface for accounts refuses.
    #[error("{service} refuses: {why}")]
    AccountsRefused {
        /// The service.
        service: String,
        /// Why, in its words.
        why: String,
    },
    /// It is part of the cell.
    #[error(
        "it is part of the cell, which installs it by itself: it is not removed (core_services in api.toml)"
    )]
    PartOfCell,
    /// Other services need it.
    #[error("other services need it: remove these first: {}", .0.join(", "))]
    ServiceRequired(Vec<String>),
    /// Another service has one of its names.
    #[error("this name is taken already: {0}")]
    ServiceNameTaken(String),
    /// There are as many services as there may be.
    #[error(
        "{} services are installed, which is the most: remove one first",
        services::MOST
    )]
    TooManyInstalled,
    /// Services have as many entries as there may be.
    #[error(
        "all services together would have more than {} ports for devices, which is the most: remove one first",
        services::MOST_ENTRIES
    )]
    TooManyEntries,
    /// Services are granted to as many devices as they may be.
    #[error(
        "all services together would be granted by name more than {} times: let every device reach some of them, or fewer",
        services::MOST_GRANTS
    )]
    TooManyGrants,
    /// The broker refuses.
    #[error("the broker, which keeps containers within the limits of its policy file, refuses: {0}")]
    BrokerRefuses(String),
    /// Peers use the connection; some of them, and whether there are more.
    #[error("devices or services use this connection: bind them to another first: {}", shown(.0, *.1))]
    ConnectionInUse(Vec<String>, bool),
    /// There are as many connections as there may be.
    #[error(transparent)]
    ConnectionsExhausted(#[from] allocation::Exhausted),
    /// vaultd would not take a secret.
    #[error("vaultd, which keeps the secrets, refuses: {0}")]
    VaultRefuses(&'static str),
    /// netd would not take it.
    #[error("netd, which keeps the network within the limits of its policy file, refuses this: {0}")]
    NetdRefuses(String),
    /// A configuration needs an endpoint, and nobody has told it.
    #[error("it is not known where devices connect to: set endpoint_host first (PUT /api/config)")]
    EndpointUnknown,
    /// A change waits for its confirmation.
    #[error(
        "a change waits for its confirmation: keep it (POST /api/network/confirm) or take it back (POST /api/network/rollback) first; meanwhile devices can be removed, and access can be taken away"
    )]
    ChangePending,
    /// No change waits.
    #[error("no change waits for a confirmation: it was taken back, or never was")]
    NotPending,
    /// The confirmation did not come over the changed path.
    #[error(
        "the change was made through the VPN: confirm it from the same device through the VPN, so that it is seen to get through"
    )]
    ConfirmPath,
    /// netd did not take a change that was to wait.
    #[error("netd did not take the change, and all is as it was: see the status, and try again")]
    NotApplied,
    /// A daemon does not answer.
    #[error("{0} is not reachable")]
    Unreachable(&'static str),
    /// Too much at once.
    #[error("the cell is busy; try again")]
    Busy,
    /// The disk is full.
    #[error("the disk is full; nothing was changed")]
    StorageFull,
    /// The database failed. The text is ours, never SQLite's.
    #[error("the cell's database failed: {0}")]
    Storage(&'static str),
    /// The kernel gave no random bytes.
    #[error("no random bytes can be had")]
    Random,
}

/// The family of a refusal, for status codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The request is malformed.
    Invalid,
    /// The caller has not shown who it is.
    Unauthenticated,
    /// The caller may not.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// It clashes with what is there.
    Conflict,
    /// It is there already.
    Exists,
    /// Something else must be done first.
    Precondition,
    /// The caller's view of it is old.
    Stale,
    /// Setup must be completed first.
    SetupRequired,
    /// Too often.
    TooMany,
    /// There is no room.
    NoRoom,
    /// Something that is needed is away.
    Unavailable,
    /// The cell is broken.
    Internal,
}

impl ServiceError {
    /// Its family and its stable code.
    #[allow(clippy::too_many_lines, reason = "one table, a line for each")]
    pub fn kind(&self) -> (Kind, &'static str) {
        match self {
            ServiceError::Invalid(_) => (Kind::Invalid, "INVALID_REQUEST"),
            ServiceError::SetupRequired => (Kind::SetupRequired, "SETUP_REQUIRED"),
            ServiceError::SetupComplete => (Kind::Conflict, "SETUP_COMPLETE"),
            ServiceError::SetupIncomplete(_) => (Kind::Precondition, "SETUP_INCOMPLETE"),
            ServiceError::NoStep => (Kind::NotFound, "NO_STEP"),
            ServiceError::ClaimToken => (Kind::Forbidden, "CLAIM_TOKEN"),
            ServiceError::NotClaimed => (Kind::Precondition, "NOT_CLAIMED"),
            ServiceError::Login => (Kind::Unauthenticated, "LOGIN"),
            ServiceError::Locked(_) => (Kind::TooMany, "LOCKED"),
            ServiceError::Throttled(_) => (Kind::TooMany, "THROTTLED"),
            ServiceError::WrongPassword => (Kind::Forbidden, "WRONG_PASSWORD"),
            ServiceError::SessionEnded => (Kind::Unauthenticated, "NO_SESSION"),
            ServiceError::UserExists => (Kind::Exists, "USER_EXISTS"),
            ServiceError::NoUser => (Kind::NotFound, "NO_USER"),
            ServiceError::LastAdmin => (Kind::Conflict, "LAST_ADMIN"),
            ServiceError::PeerExists => (Kind::Exists, "PEER_EXISTS"),
            ServiceError::KeyInUse => (Kind::Exists, "KEY_IN_USE"),
            ServiceError::Stale => (Kind::Stale, "VERSION_MISMATCH"),
            ServiceError::NoPeer => (Kind::NotFound, "NO_PEER"),
            ServiceError::AddressesExhausted(_) => (Kind::NoRoom, "ADDRESSES_EXHAUSTED"),
            ServiceError::TooManyPeers => (Kind::NoRoom, "PEERS_EXHAUSTED"),
            ServiceError::TooManyServices => (Kind::NoRoom, "SERVICES_EXHAUSTED"),
            ServiceError::ConnectionExists => (Kind::Exists, "CONNECTION_EXISTS"),
            ServiceError::NoConnection => (Kind::NotFound, "NO_CONNECTION"),
            ServiceError::NoServiceNetwork => (Kind::NotFound, "NO_SERVICE_NETWORK"),
            ServiceError::NoServiceRoom(_) => (Kind::NoRoom, "SERVICE_NETWORKS_EXHAUSTED"),
            ServiceError::NoService => (Kind::NotFound, "NO_SERVICE"),
            ServiceError::NoAlert => (Kind::NotFound, "NO_ALERT"),
            ServiceError::ServiceInstalled => (Kind::Exists, "SERVICE_INSTALLED"),
            ServiceError::NotInCatalog => (Kind::NotFound, "NOT_IN_CATALOG"),
            ServiceError::CatalogFault(_) => (Kind::Precondition, "CATALOG_FAULT"),
            ServiceError::NoCatalog(_) => (Kind::Unavailable, "NO_CATALOG"),
            ServiceError::NoRemoteCatalog => (Kind::NotFound, "NO_REMOTE_CATALOG"),
            ServiceError::RemoteCatalogExists => (Kind::Exists, "REMOTE_CATALOG_EXISTS"),
            ServiceError::TooManyRemoteCatalogs => (Kind::NoRoom, "REMOTE_CATALOGS_EXHAUSTED"),
            ServiceError::ServiceNotNow(_) => (Kind::Conflict, "SERVICE_NOT_NOW"),
            ServiceError::ServiceRequires(_) => (Kind::Precondition, "SERVICE_REQUIRES"),
            ServiceError::NoAccounts(_) => (Kind::Precondition, "NO_ACCOUNTS"),
            ServiceError::NoAccount => (Kind::NotFound, "NO_ACCOUNT"),
            ServiceError::AccountExists(_) => (Kind::Exists, "ACCOUNT_EXISTS"),
            ServiceError::TooManyAccounts => (Kind::NoRoom, "ACCOUNTS_EXHAUSTED"),
            ServiceError::AccountsAway { .. } => (Kind::Unavailable, "ACCOUNTS_AWAY"),
            ServiceError::AccountsBusy(_) => (Kind::Unavailable, "ACCOUNTS_BUSY"),
            ServiceError::AccountsRefused { .. } => (Kind::Precondition, "ACCOUNTS_REFUSED"),
            ServiceError::PartOfCell => (Kind::Conflict, "PART_OF_CELL"),
            ServiceError::ServiceRequired(_) => (Kind::Conflict, "SERVICE_REQUIRED"),
            ServiceError::ServiceNameTaken(_) => (Kind::Conflict, "SERVICE_NAME_TAKEN"),
            ServiceError::TooManyInstalled => (Kind::NoRoom, "INSTALLED_EXHAUSTED"),
            ServiceError::TooManyEntries => (Kind::NoRoom, "ENTRIES_EXHAUSTED"),
            ServiceError::TooManyGrants => (Kind::NoRoom, "GRANTS_EXHAUSTED"),
            ServiceError::BrokerRefuses(_) => (Kind::Precondition, "BROKER_REFUSES"),
            ServiceError::ExitNotCarried(_) => (Kind::Precondition, "EXIT_NOT_CARRIED"),
            ServiceError::NoWayOut { .. } | ServiceError::NoReach(_) => (Kind::Conflict, "NO_WAY_OUT"),
            ServiceError::ExitNotAllowed { .. } => (Kind::Conflict, "EXIT_NOT_ALLOWED"),
            ServiceError::ConnectionInUse(..) => (Kind::Conflict, "CONNECTION_IN_USE"),
            ServiceError::ConnectionsExhausted(_) => (Kind::NoRoom, "CONNECTIONS_EXHAUSTED"),
            ServiceError::VaultRefuses(_) => (Kind::Precondition, "VAULT_REFUSES"),
            ServiceError::NetdRefuses(_) => (Kind::Precondition, "NETD_REFUSES"),
            ServiceError::EndpointUnknown => (Kind::Precondition, "ENDPOINT_UNKNOWN"),
            ServiceError::ChangePending => (Kind::Conflict, "CHANGE_PENDING"),
            ServiceError::NotPending => (Kind::Conflict, "NOT_PENDING"),
            ServiceError::ConfirmPath => (Kind::Forbidden, "CONFIRM_PATH"),
            ServiceError::NotApplied => (Kind::Unavailable, "NOT_APPLIED"),
            ServiceError::Unreachable(_) => (Kind::Unavailable, "UNREACHABLE"),
            ServiceError::Busy => (Kind::Unavailable, "BUSY"),
            ServiceError::StorageFull => (Kind::NoRoom, "STORAGE_FULL"),
            ServiceError::Storage(_) => (Kind::Internal, "STORAGE"),
            ServiceError::Random => (Kind::Internal, "RANDOM"),
        }
    }

    /// Seconds after which to try again.
    pub fn retry_after(&self) -> Option<u64> {
        match self {
            ServiceError::Locked(seconds) | ServiceError::Throttled(seconds) => Some(*seconds),
            ServiceError::Busy => Some(1),
            _ => None,
        }
    }
}

fn words(kinds: &[connection::kind::Kind]) -> String {
    let words: Vec<&str> = kinds.iter().map(|kind| kind.as_str()).collect();
    match words.is_empty() {
        true => "none".to_owned(),
        false => words.join(", "),
    }
}

fn shown(names: &[String], more: bool) -> String {
    let more = if more { " and more" } else { "" };
    format!("{}{more}", names.join(", "))
}

impl From<rusqlite::Error> for ServiceError {
    fn from(error: rusqlite::Error) -> Self {
        // SQLite's text names tables and columns, never values: fit for the log, not for an answer.
        tracing::error!(%error, "the database failed");
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => ServiceError::StorageFull,
            _ => ServiceError::Storage("see the log"),
        }
    }
}
