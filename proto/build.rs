//! Compiles the protos with protox, so that building needs no protoc.

use std::path::Path;

use prost::Message as _;

const PROTOS: &[&str] = &[
    "cell/common/v1/net.proto",
    "cell/common/v1/condition.proto",
    "cell/netd/v1/network_service.proto",
    "cell/wg/v1/wireguard_service.proto",
    "cell/broker/v1/container_service.proto",
    "cell/vault/v1/certificate_service.proto",
    "cell/vault/v1/secret_service.proto",
    "cell/api/v1/cell_service.proto",
];

/// Messages that carry key material: they get a hand-written `Debug` that shows nothing (`src/redact.rs`).
const SECRET: &[&str] = &[
    "cell.wg.v1.SetDeviceRequest",
    "cell.vault.v1.PutSecretRequest",
    "cell.vault.v1.GetWireguardPrivateKeyResponse",
    "cell.api.v1.ClaimStep",
    "cell.api.v1.AdminStep",
    "cell.api.v1.SubmitSetupStepRequest",
    "cell.api.v1.CompleteSetupRequest",
    "cell.api.v1.CreatePeerResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=cell");
    let descriptors = protox::compile(PROTOS, [Path::new(".")])?;
    std::fs::write(Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut prost = tonic_prost_build::Config::new();
    prost.skip_debug(SECRET.iter().copied());
    tonic_prost_build::configure()
        .build_transport(true)
        .compile_fds_with_config(descriptors, prost)?;
    Ok(())
}
