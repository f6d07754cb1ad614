//! What a device gets: the cell's side of its configuration, and its key pair if the server is to make it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cell_api_core::client_config::CellSide;
use cell_api_core::key::PublicKey;
use cell_api_core::name::EndpointHost;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

use super::ServiceError;
use super::cell::CellIdentity;
use crate::app::App;
use crate::config::Config;

/// The cell's side of configurations, if all of it can be known now.
pub(super) async fn known_side(app: &App, identity: &CellIdentity) -> Option<CellSide> {
    let public_key = app.wireguard_key.public_key(app).await.ok()?;
    Some(side_of(
        &app.config,
        identity,
        public_key,
        identity.endpoint_host.clone()?,
    ))
}

/// The cell's side of configurations.
pub(super) async fn side(app: &App, identity: &CellIdentity) -> Result<CellSide, ServiceError> {
    let endpoint_host = identity
        .endpoint_host
        .clone()
        .ok_or(ServiceError::EndpointUnknown)?;
    let public_key = app.wireguard_key.public_key(app).await?;
    Ok(side_of(&app.config, identity, public_key, endpoint_host))
}

fn side_of(
    config: &Config,
    identity: &CellIdentity,
    public_key: PublicKey,
    endpoint_host: EndpointHost,
) -> CellSide {
    CellSide {
        public_key,
        range: identity.range,
        endpoint_host,
        listen_port: config.network.listen_port,
        dns: config.egress_socket.is_some(),
    }
}

/// The public half, and the base64 of the private one.
type ServerMade = (PublicKey, Option<Zeroizing<String>>);

/// A key pair for a device whose owner asked for one; the private half is in the answer and nowhere else.
pub(super) fn make_key() -> Result<ServerMade, ServiceError> {
    let mut random = Zeroizing::new([0u8; 32]);
    getrandom::fill(random.as_mut()).map_err(|_| ServiceError::Random)?;
    // Zeroed when dropped (x25519-dalek, feature zeroize).
    let secret = StaticSecret::from(*random);
    let public = x25519_dalek::PublicKey::from(&secret);
    let text = Zeroizing::new(STANDARD.encode(secret.as_bytes()));
    let public = PublicKey::from_bytes(public.as_bytes()).map_err(|_| ServiceError::Random)?;
    Ok((public, Some(text)))
}
