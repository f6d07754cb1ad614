//! What is asked for, read field by field.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::services::access::Access;

use super::{ConfigureService, InstallService, SetServiceSecret, StoreAccess};
use crate::http::input::FromFields;
use crate::service::store::InstallInput;

impl From<InstallService> for InstallInput {
    fn from(install: InstallService) -> Self {
        InstallInput {
            instance: install.instance.unwrap_or_default(),
            parameters: install.parameters.unwrap_or_default(),
            everyone: install.everyone.unwrap_or_default(),
            allowed_peers: install.allowed_peers.unwrap_or_default(),
            exit: install.connection_id,
        }
    }
}

impl FromFields for InstallService {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        InstallService {
            instance: fields.optional_string("instance", faults),
            parameters: Some(fields.texts("parameters", faults)),
            everyone: fields.optional_flag("everyone", faults),
            allowed_peers: fields.optional_strings("allowed_peers", faults),
            connection_id: fields.optional_string("connection_id", faults),
        }
    }

    fn check(self) -> Faults {
        let peers = self.allowed_peers.unwrap_or_default();
        let mut faults = access_faults(self.everyone, &peers);
        if self.connection_id.is_some_and(|text| text.is_empty()) {
            faults.add(
                "connection_id",
                "is a connection, \"direct\" or \"none\"; left out: as its manifest says",
            );
        }
        faults
    }
}

impl FromFields for ConfigureService {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        if !fields.has("parameters") {
            faults.add("parameters", "is required");
        }
        ConfigureService {
            parameters: fields.texts("parameters", faults),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl FromFields for SetServiceSecret {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        SetServiceSecret {
            value: fields.string("value", faults),
        }
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl FromFields for StoreAccess {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        StoreAccess {
            everyone: fields.optional_flag("everyone", faults),
            allowed_peers: fields.strings("allowed_peers", faults),
        }
    }

    fn check(self) -> Faults {
        access_faults(self.everyone, &self.allowed_peers)
    }
}

fn access_faults(everyone: Option<bool>, peers: &[String]) -> Faults {
    Access::check(everyone.unwrap_or_default(), peers)
        .err()
        .unwrap_or_default()
}
