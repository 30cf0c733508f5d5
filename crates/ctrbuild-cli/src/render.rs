//! Errors on the terminal: lines of the recipe, the end of the log, cause, hint.

use crate::style::{self, Palette};
use ctrbuild::Error;
use diagnostic::sanitize;
use std::io::Write;

/// Lines shown around those that an error is about.
const AROUND: u32 = 3;
/// Lines of a log that are shown.
const LOG_LINES: usize = 20;

/// Write an error to standard error; with the recipe, the lines that it is about.
pub fn failure(error: &Error, recipe: Option<&ctrbuild::Recipe>) {
    let mut out = std::io::stderr().lock();
    let _ = out.write_all(text(error, recipe, Palette::of(style::color_of(&std::io::stderr()))).as_bytes());
}

fn text(error: &Error, recipe: Option<&ctrbuild::Recipe>, palette: Palette) -> String {
    let mut out = String::new();
    let Palette { error: red, dim, active: cyan, reset, .. } = palette;
    if !error.log_tail.is_empty() {
        let skipped = error.log_tail.len().saturating_sub(LOG_LINES);
        out.push_str("------\n");
        if skipped > 0 {
            out.push_str(&format!("{dim} (earlier lines left out){reset}\n"));
        }
        for line in &error.log_tail[skipped..] {
            out.push_str(&format!("{}\n", sanitize(line)));
        }
        out.push_str("------\n");
    }
    if let (Some(recipe), Some(first)) = (recipe, error.lines.iter().map(|l| l.first).min()) {
        out.push_str(&format!("{}:{first}\n--------------------\n", sanitize(&recipe.name)));
        let last = error.lines.iter().map(|l| l.last).max().unwrap_or(first);
        let shown = first.saturating_sub(AROUND).max(1)..=last.saturating_add(AROUND);
        for (number, line) in (1u32..).zip(recipe.text.lines()).filter(|(n, _)| shown.contains(n)) {
            let marked = error.lines.iter().any(|l| (l.first..=l.last).contains(&number));
            let (mark, on) = if marked { (">>>", red) } else { ("   ", dim) };
            out.push_str(&format!(
                "{on}{number:4} | {mark} {}{}\n",
                sanitize(line.trim_end_matches('\r')),
                if on.is_empty() { "" } else { reset }
            ));
        }
        out.push_str("--------------------\n");
    }
    out.push_str(&format!("{red}error:{reset} {}\n", sanitize(&error.message)));
    if let Some(hint) = &error.hint {
        out.push_str(&format!("{cyan}hint:{reset} {}\n", sanitize(hint)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use dockerfile::instruction::Lines;

    #[test]
    fn a_step_shows_lines_log_and_hint() {
        let recipe = ctrbuild::Recipe {
            name: "Dockerfile".into(),
            text: "FROM x\nRUN a \\\n  b\nLABEL c=\x1b[2Jd\n".into(),
            path: None,
        };
        let mut error = Error::new(
            ctrbuild::ErrorKind::Step(3),
            "process \"/bin/sh -c a\" did not complete successfully: exit code: 3",
        )
        .hint("look at it");
        error.lines.push(Lines { first: 2, last: 3 });
        error.log_tail = vec!["oops\x1b]0;title\x07".into()];
        insta::assert_snapshot!(text(&error, Some(&recipe), Palette::default()));
    }
}
