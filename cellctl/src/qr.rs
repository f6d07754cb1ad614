//! A QR code as text: two modules to a character, black on white whatever the terminal's colours are.

use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

/// Free modules around the code (ISO/IEC 18004: at least 4).
const QUIET_ZONE: i32 = 4;
/// Black on white, from the fixed part of the 256 colours: themes change the first 16.
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
const RESET: &str = "\x1b[0m";

/// `text` drawn; `None` when it is too long for a code. The drawing is as secret as the text.
pub(crate) fn draw(text: &str) -> Option<Zeroizing<String>> {
    let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
    let width = i32::try_from(code.width()).ok()?;
    let dark = |x: i32, y: i32| {
        let inside = (0..width).contains(&x) && (0..width).contains(&y);
        inside && code[(x as usize, y as usize)] == Color::Dark
    };
    let mut drawn = Zeroizing::new(String::new());
    for y in (-QUIET_ZONE..width + QUIET_ZONE).step_by(2) {
        drawn.push_str(BLACK_ON_WHITE);
        for x in -QUIET_ZONE..width + QUIET_ZONE {
            drawn.push(match (dark(x, y), dark(x, y + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => ' ',
            });
        }
        drawn.push_str(RESET);
        drawn.push('\n');
    }
    Some(drawn)
}
