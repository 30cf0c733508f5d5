//! Whether what is said to people has colours, and those of it.

use diagnostic::Color;
use std::io::IsTerminal;

/// A terminal that can't move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_none_or(|t| t.is_empty() || t == "dumb")
}

/// On terminals that have colours, unless the user wants none (no-color.org).
pub fn color_of(stream: &impl IsTerminal) -> Color {
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
    if stream.is_terminal() && !unwanted && !is_dumb() { Color::Always } else { Color::Never }
}

/// Codes before and after a text; empty without colours.
#[derive(Debug, Clone, Copy, Default)]
pub struct Palette {
    pub error: &'static str,
    /// What failed, less loudly.
    pub failed: &'static str,
    pub dim: &'static str,
    pub active: &'static str,
    pub cached: &'static str,
    pub reset: &'static str,
}

impl Palette {
    pub fn of(color: Color) -> Self {
        match color {
            Color::Never => Palette::default(),
            Color::Always => Palette {
                error: "\x1b[1;31m",
                failed: "\x1b[31m",
                dim: "\x1b[2m",
                active: "\x1b[36m",
                cached: "\x1b[34m",
                reset: "\x1b[0m",
            },
        }
    }
}
