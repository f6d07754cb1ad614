//! Secrets of exits by their names: `conn_<32 hexadecimal digits>_<field>`, written by the API, read by the daemon that drives
//! the exit.

use crate::secret_name::SecretName;

/// Most preshared keys of a tunnel: one for each far end (cell.netd.v1.WireguardExit).
const PRESHARED_MAX: u32 = 8;

/// What a secret of an exit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitField {
    /// Private key of a WireGuard tunnel's near end.
    WireguardKey,
    /// `preshared_key_N`, N from 1 to 8: that of the tunnel's N-th far end.
    PresharedKey,
    /// Password at a proxy.
    Password,
    /// Private key for an SSH server.
    PrivateKey,
    /// What belongs to an OpenVPN profile: `key`, `tls_auth`, `tls_crypt`, `tls_crypt_v2`, and the user's name and password, which
    /// have names of their own, so that nobody but who drives OpenVPN reads them.
    Openvpn,
}

/// What the secret is for; none: it is no exit's, or nobody reads that field.
pub fn field(name: &SecretName) -> Option<ExitField> {
    let rest = name.as_str().strip_prefix("conn_")?;
    let (id, field) = rest.split_once('_')?;
    let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if id.len() != 32 || !id.bytes().all(digit) {
        return None;
    }
    match field {
        "wireguard_key" => Some(ExitField::WireguardKey),
        "password" => Some(ExitField::Password),
        "private_key" => Some(ExitField::PrivateKey),
        "key" | "tls_auth" | "tls_crypt" | "tls_crypt_v2" | "openvpn_username" | "openvpn_password" => {
            Some(ExitField::Openvpn)
        }
        _ => is_preshared(field).then_some(ExitField::PresharedKey),
    }
}

fn is_preshared(field: &str) -> bool {
    (1..=PRESHARED_MAX).any(|number| field == format!("preshared_key_{number}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn of(name: &str) -> Option<ExitField> {
        field(&name.parse().unwrap())
    }

    #[test]
    fn the_fields_that_daemons_read_are_known() {
        for (name, known) in [
            ("wireguard_key", ExitField::WireguardKey),
            ("preshared_key_1", ExitField::PresharedKey),
            ("preshared_key_8", ExitField::PresharedKey),
            ("password", ExitField::Password),
            ("private_key", ExitField::PrivateKey),
            ("key", ExitField::Openvpn),
            ("tls_auth", ExitField::Openvpn),
            ("tls_crypt", ExitField::Openvpn),
            ("tls_crypt_v2", ExitField::Openvpn),
            ("openvpn_username", ExitField::Openvpn),
            ("openvpn_password", ExitField::Openvpn),
        ] {
            assert_eq!(of(&format!("conn_{ID}_{name}")), Some(known), "{name}");
        }
    }

    #[test]
    fn nothing_else_is() {
        for name in [
            "preshared_key_0",
            "preshared_key_9",
            "preshared_key_01",
            "passwords",
            "username",
            "tls_crypt_v3",
            "keys",
            "x_password",
            "_password",
        ] {
            assert_eq!(of(&format!("conn_{ID}_{name}")), None, "{name}");
        }
        for name in [
            format!("conn_{ID}password"),
            format!("conn_{}_password", &ID[1..]),
            format!("conn_0{ID}_password"),
            format!("conn_{}g_password", &ID[1..]),
            format!("ddns_{ID}_password"),
            format!("xconn_{ID}_password"),
        ] {
            assert_eq!(of(&name), None, "{name}");
        }
    }
}
