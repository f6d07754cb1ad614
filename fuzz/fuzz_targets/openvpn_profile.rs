//! OpenVPN profiles that an administrator imports: no word of what is kept begins a directive that runs or reads anything.
#![no_main]

use cell_api_core::connection::import::openvpn;
use libfuzzer_sys::fuzz_target;

const NEVER: &[&str] = &["up", "down", "plugin", "config", "management", "ca", "key", "script-security", "iproute", "log", "cd"];

fuzz_target!(|text: &str| {
    if let Ok(imported) = openvpn::read(text, Some(("user", "password"))) {
        assert!((1..=64).contains(&imported.config.remotes.len()));
        let shown = format!("{imported:?}");
        assert!(imported.secrets.iter().all(|secret| secret.value.len() < 20 || !shown.contains(secret.value.as_str())));
        let kept = serde_json::to_string(&imported.config).expect("it can be kept");
        assert_eq!(serde_json::from_str(&kept).ok(), Some(imported.config.clone()), "it is read as it was kept");
        for option in &imported.config.options {
            assert!(!NEVER.contains(&option[0].trim_start_matches('-')));
            assert!(option.iter().all(|word| !word.contains(['\n', '\r', '\0'])));
        }
    }
});
