//! Compiles the protos with protox, so that building needs no protoc.

use std::path::Path;

const PROTOS: &[&str] = &[
    "cell/common/v1/net.proto",
    "cell/common/v1/condition.proto",
    "cell/netd/v1/network_service.proto",
    "cell/netd/v1/state.proto",
    "cell/wg/v1/wireguard_service.proto",
    "cell/iptables/v1/ruleset_service.proto",
    "cell/egress/v1/egress_service.proto",
    "cell/openvpn/v1/openvpn_service.proto",
    "cell/broker/v1/backup_service.proto",
    "cell/broker/v1/container_service.proto",
    "cell/broker/v1/deployment_service.proto",
    "cell/vault/v1/certificate_service.proto",
    "cell/vault/v1/secret_service.proto",
    "cell/api/v1/cell_service.proto",
    "cell/api/v1/store_service.proto",
    "cell/api/v1/account_service.proto",
    "cell/api/v1/manager_service.proto",
    "cell/api/v1/remote_catalog_service.proto",
];

/// Messages that carry key material: they get a hand-written `Debug` that shows nothing (`src/redact.rs`).
const SECRET: &[&str] = &[
    "cell.wg.v1.Peer",
    "cell.wg.v1.SetDeviceRequest",
    "cell.vault.v1.PutSecretRequest",
    "cell.vault.v1.GetWireguardPrivateKeyResponse",
    "cell.vault.v1.ReadExitSecretResponse",
    "cell.vault.v1.ReadServiceSecretResponse",
    "cell.api.v1.ClaimStep",
    "cell.api.v1.AdminStep",
    "cell.api.v1.SubmitSetupStepRequest",
    "cell.api.v1.CompleteSetupRequest",
    "cell.api.v1.CreatePeerResponse",
    "cell.api.v1.ResetPasswordRequest",
    "cell.api.v1.SetDomainRequest",
    "cell.api.v1.ConnectionImport",
    "cell.api.v1.ImportFirstVersionRequest",
    "cell.api.v1.AccountCredential",
    "cell.api.v1.SetServiceSecretRequest",
    "cell.egress.v1.ConnectServiceRequest",
    "cell.egress.v1.ConnectServiceResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=cell");
    let mut compiler = protox::Compiler::new([Path::new(".")])?;
    compiler.include_imports(true).open_files(PROTOS)?;
    // As bytes, because prost-types knows no `debug_redact` and would leave it out.
    let bytes = compiler.encode_file_descriptor_set();
    std::fs::write(
        Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin"),
        bytes,
    )?;
    let descriptors = compiler.file_descriptor_set();
    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(SECRET.iter().copied());
    // The codec looks a message up by its name.
    prost.enable_type_names();
    tonic_prost_build::configure()
        .build_transport(true)
        .codec_path("crate::strict::StrictCodec")
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
