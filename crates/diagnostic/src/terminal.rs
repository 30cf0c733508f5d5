//! Diagnostics for people, in rustc's look.
//!
//! Each rendering holds a line `--> NAME:LINE:COLUMN`. Control characters of the text, of names and of
//! messages never reach the output: they are shown as visible symbols.

use crate::{Diagnostic, Severity, SourceFile, TextRange};
use std::borrow::Cow;
use std::fmt::Write;

/// Whether escape sequences for colour are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Never,
    /// ANSI sequences.
    Always,
}

const MAX_COLUMNS: usize = 160;
const MAX_LINES: u32 = 6;
const TAB: &str = "    ";

/// Makes text safe for a terminal: C0 controls become their Unicode pictures, C1, bidirectional and other
/// invisible format characters become `\u{..}`. Newlines become `␊`.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        push_safe(&mut out, c);
    }
    Cow::Owned(out)
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{61c}')
}

fn push_safe(out: &mut String, c: char) {
    match c {
        '\u{0}'..='\u{1f}' => out.push(char::from_u32(0x2400 + c as u32).unwrap_or(' ')),
        '\u{7f}' => out.push('\u{2421}'),
        c if is_unsafe(c) => {
            let _ = write!(out, "\\u{{{:x}}}", c as u32);
        }
        c => out.push(c),
    }
}

/// The same JSON for a terminal: what JSON may hold as it is but a terminal obeys (C1 controls, bidirectional and
/// invisible characters) is written as `\\uXXXX`. Such characters occur in strings only, so that the value stays.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    let layout = |c: char| matches!(c, '\n' | '\r' | '\t');
    if !json.chars().any(|c| is_unsafe(c) && !layout(c)) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if is_unsafe(c) && !layout(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// Text of several lines for a terminal: each as [`sanitize`] has it.
pub fn sanitize_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", sanitize(line)),
            None => sanitize(line).into_owned(),
        })
        .collect()
}

/// All diagnostics, with an empty line between two.
pub fn render_all(file: &SourceFile, diagnostics: &[Diagnostic], color: Color) -> String {
    diagnostics.iter().map(|diagnostic| render(file, diagnostic, color)).collect::<Vec<_>>().join("\n")
}

/// One diagnostic; ends with a newline.
pub fn render(file: &SourceFile, diagnostic: &Diagnostic, color: Color) -> String {
    let paint = Paint { color, severity: diagnostic.severity };
    let mut out = String::new();
    let name = sanitize(file.name());
    let _ = writeln!(
        out,
        "{}: {}",
        paint.level(&format!("{}[{}]", diagnostic.severity.name(), sanitize(&diagnostic.rule))),
        paint.bold(&sanitize(&diagnostic.message)),
    );
    let mut blocks: Vec<Block> = Vec::new();
    push_block(&mut blocks, file, diagnostic.range, "", Kind::Primary);
    for label in &diagnostic.labels {
        push_block(&mut blocks, file, label.range, &label.message, Kind::Secondary);
    }
    let last = blocks.iter().map(|block| block.last).max().unwrap_or(1);
    let gutter = last.to_string().len();
    for (index, block) in blocks.iter().enumerate() {
        let position = file.position(block.range.start);
        let arrow = if index == 0 { "-->" } else { ":::" };
        let place = format!("{name}:{}:{}", position.line, position.column);
        let _ = writeln!(out, "{:gutter$}{} {place}", "", paint.blue(arrow));
        let _ = writeln!(out, "{:gutter$} {}", "", paint.blue("|"));
        block.write(&mut out, file, gutter, &paint);
    }
    if !diagnostic.notes.is_empty() || diagnostic.help.is_some() || diagnostic.url.is_some() {
        let _ = writeln!(out, "{:gutter$} {}", "", paint.blue("|"));
    }
    let mut tail = |word: &str, text: &str| {
        let _ = writeln!(out, "{:gutter$} {} {}: {}", "", paint.blue("="), paint.bold(word), sanitize(text));
    };
    for note in &diagnostic.notes {
        tail("note", note);
    }
    if let Some(help) = &diagnostic.help {
        tail("help", help);
    }
    if let Some(url) = &diagnostic.url {
        tail("see", url);
    }
    out
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Primary,
    Secondary,
}

struct Block<'a> {
    range: TextRange,
    message: &'a str,
    kind: Kind,
    first: u32,
    last: u32,
}

fn push_block<'a>(
    blocks: &mut Vec<Block<'a>>,
    file: &SourceFile,
    range: TextRange,
    message: &'a str,
    kind: Kind,
) {
    let first = file.line_of(range.start).min(file.line_count().max(1));
    let end = if range.is_empty() { range.start } else { range.end - 1 };
    let last = file.line_of(end).clamp(first, file.line_count().max(first));
    blocks.push(Block { range, message, kind, first, last });
}

impl Block<'_> {
    fn write(&self, out: &mut String, file: &SourceFile, gutter: usize, paint: &Paint) {
        let shown = self.last.min(self.first + MAX_LINES - 1);
        for line in self.first..=shown {
            let range = file.line_range(line);
            let mut text = String::new();
            let mut marks = (0, 0);
            let mut width = 0;
            for (at, c) in file.slice(range).char_indices() {
                let offset = range.start + at as u32;
                if offset == self.range.start || (line != self.first && at == 0) {
                    marks.0 = width;
                }
                let before = text.len();
                match c {
                    '\t' => text.push_str(TAB),
                    c => push_safe(&mut text, c),
                }
                width += text[before..].chars().count();
                if offset < self.range.end {
                    marks.1 = width;
                }
            }
            if self.range.start >= range.end {
                marks.0 = width;
            }
            let marks = (marks.0, marks.1.max(marks.0 + 1));
            let (text, marks) = window(&text, marks);
            let _ = writeln!(out, "{} {} {text}", paint.blue(&format!("{line:gutter$}")), paint.blue("|"));
            let sign = if self.kind == Kind::Primary { "^" } else { "-" };
            let message = if line == shown { sanitize(self.message) } else { Cow::Borrowed("") };
            let under = format!("{}{} {message}", " ".repeat(marks.0), sign.repeat(marks.1 - marks.0));
            let under = under.trim_end();
            let under = if self.kind == Kind::Primary { paint.level(under) } else { paint.blue(under) };
            let _ = writeln!(out, "{:gutter$} {} {under}", "", paint.blue("|"));
        }
        if shown < self.last {
            let _ = writeln!(out, "{} up to line {}", paint.blue("..."), self.last);
        }
    }
}

/// Cuts a long line so that the marked part stays visible.
fn window(text: &str, marks: (usize, usize)) -> (String, (usize, usize)) {
    let width = text.chars().count();
    if width <= MAX_COLUMNS {
        return (text.to_owned(), marks);
    }
    let from = marks.0.saturating_sub(MAX_COLUMNS / 4);
    let to = (from + MAX_COLUMNS).min(width);
    let mut out = String::new();
    if from > 0 {
        out.push('…');
    }
    out.extend(text.chars().skip(from).take(to - from));
    if to < width {
        out.push('…');
    }
    let shift = usize::from(from > 0);
    let start = marks.0.min(to) - from + shift;
    (out, (start, (marks.1.min(to) - from + shift).max(start + 1)))
}

struct Paint {
    color: Color,
    severity: Severity,
}

impl Paint {
    fn wrap(&self, code: &str, text: &str) -> String {
        match self.color {
            Color::Never => text.to_owned(),
            Color::Always => format!("\x1b[{code}m{text}\x1b[0m"),
        }
    }

    fn bold(&self, text: &str) -> String {
        self.wrap("1", text)
    }

    fn blue(&self, text: &str) -> String {
        self.wrap("1;34", text)
    }

    fn level(&self, text: &str) -> String {
        let code = match self.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
            Severity::Info => "1;32",
            Severity::Style | Severity::Hint => "1;36",
        };
        self.wrap(code, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_for_terminals_is_the_same_json() {
        let value = "{\n  \"a\u{9b}2J\": \"\\u001b\u{7f}\u{202e}x\u{feff}é\"\n}";
        assert_eq!(escape_json(value), "{\n  \"a\\u009b2J\": \"\\u001b\\u007f\\u202ex\\ufeffé\"\n}");
        assert!(matches!(escape_json("{\"a\": 1}\n"), Cow::Borrowed(_)));
        assert_eq!(sanitize_lines("a\u{9b}\nb\u{1b}c"), "a\\u{9b}\nb␛c");
    }

    #[test]
    fn looks_like_rustc() {
        let file = SourceFile::new("Dockerfile", "FROM a\n\tRUM x\n");
        let diagnostic = Diagnostic::error(
            "unknown-instruction",
            TextRange::new(8, 11),
            "unknown instruction: RUM (did you mean RUN?)",
        )
        .label(TextRange::new(0, 4), "the stage starts here")
        .help("write RUN");
        let text = render(&file, &diagnostic, Color::Never);
        let expected = "error[unknown-instruction]: unknown instruction: RUM (did you mean RUN?)\n \
             --> Dockerfile:2:2\n  |\n2 |     RUM x\n  |     ^^^\n ::: Dockerfile:1:1\n  |\n1 | FROM a\n  | ---- the stage starts here\n  \
             |\n  = help: write RUN\n";
        assert_eq!(text, expected);
        assert!(render(&file, &diagnostic, Color::Always).contains("\x1b[1;31m"));
    }

    #[test]
    fn control_characters_are_shown_not_sent() {
        let file = SourceFile::new("Docker\x1bfile", "RUN \x1b]0;evil\x07 \u{202e}x\u{9b}31m\n");
        let diagnostic = Diagnostic::error("a\x1bb", TextRange::new(0, 3), "m\x1bm\ny")
            .note("\x1b[2J")
            .help("h\r")
            .label(TextRange::new(0, 1), "\x1b[1A");
        for line in render(&file, &diagnostic, Color::Never).lines() {
            assert!(!line.chars().any(is_unsafe), "{line:?}");
        }
        assert_eq!(sanitize("a\nb"), "a\u{240a}b");
        assert_eq!(sanitize("plain é"), "plain é");
    }

    #[test]
    fn odd_ranges_do_not_panic() {
        let long = format!("{}\n{}", "é".repeat(500), "x".repeat(10));
        for text in ["", "\n", "a", "a\n", "é\n\n\n\n\n\n\n\n\n\nb", long.as_str()] {
            let file = SourceFile::new("f", text);
            for start in 0..20 {
                for end in [start, start + 1, start + 7, 998, 5000] {
                    let diagnostic = Diagnostic::warning("r", TextRange::new(start, end), "m")
                        .label(TextRange::new(end, end), "l");
                    assert!(render(&file, &diagnostic, Color::Never).contains("--> f:"));
                }
            }
        }
    }

    #[test]
    fn long_lines_are_cut_around_the_mark() {
        let file = SourceFile::new("f", format!("{}HERE{}", "a".repeat(400), "b".repeat(400)));
        let text = render(&file, &Diagnostic::error("r", TextRange::new(400, 404), "m"), Color::Never);
        let lines: Vec<&str> = text.lines().collect();
        let at = lines[3].find("HERE").map(|at| lines[3][..at].chars().count());
        let mark = lines[4].find("^^^^").map(|at| lines[4][..at].chars().count());
        assert!(at.is_some());
        assert_eq!(at, mark);
    }
}
