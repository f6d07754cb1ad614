//! What devices need in order to know the cell: its root certificate.

use super::ServiceError;
use crate::app::App;

/// The root certificate as PEM.
///
/// # Errors
/// [`ServiceError::Unreachable`].
pub async fn root_pem(app: &App) -> Result<String, ServiceError> {
    app.vault.root_pem().await
}
