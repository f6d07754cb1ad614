//! `Debug` for messages that carry key material: their name and nothing else, so that no log line can hold a secret.

use std::fmt;

macro_rules! redact {
    ($($message:ty),+ $(,)?) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($message), " { redacted }"))
            }
        }
    )+};
}

redact!(
    crate::wg::v1::Peer,
    crate::wg::v1::SetDeviceRequest,
    crate::vault::v1::PutSecretRequest,
    crate::vault::v1::GetWireguardPrivateKeyResponse,
    crate::vault::v1::ReadExitSecretResponse,
    crate::vault::v1::ReadServiceSecretResponse,
    crate::api::v1::ClaimStep,
    crate::api::v1::AdminStep,
    crate::api::v1::SubmitSetupStepRequest,
    crate::api::v1::CompleteSetupRequest,
    crate::api::v1::CreatePeerResponse,
    crate::api::v1::ResetPasswordRequest,
    crate::api::v1::SetDomainRequest,
    crate::api::v1::ConnectionImport,
    crate::api::v1::ImportFirstVersionRequest,
    crate::api::v1::AccountCredential,
    crate::api::v1::SetServiceSecretRequest,
    crate::egress::v1::ConnectServiceRequest,
    crate::egress::v1::ConnectServiceResponse,
);
