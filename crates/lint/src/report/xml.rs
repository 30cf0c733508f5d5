//! Checkstyle's and JUnit's XML.

use super::{File, places};
use diagnostic::Severity;
use std::fmt::Write;

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";

/// Text as an attribute or element may hold it; characters that XML can't hold become U+FFFD.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            '\n' | '\t' | '\r' => {
                let _ = write!(out, "&#{};", c as u32);
            }
            c if (c as u32) < 0x20 || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn checkstyle(files: &[File<'_>]) -> String {
    let mut out = format!("{HEAD}<checkstyle version=\"4.3\">\n");
    for file in files {
        let _ = writeln!(out, "  <file name=\"{}\">", escape(file.source.name()));
        for finding in file.findings {
            let ((line, column), _) = places(file.source, &finding.diagnostic);
            let severity = match finding.diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                _ => "info",
            };
            let _ = writeln!(
                out,
                "    <error line=\"{line}\" column=\"{column}\" severity=\"{severity}\" message=\"{}\" source=\"{}\"/>",
                escape(&finding.diagnostic.message),
                escape(&finding.diagnostic.rule),
            );
        }
        out.push_str("  </file>\n");
    }
    out.push_str("</checkstyle>\n");
    out
}

pub(super) fn junit(files: &[File<'_>]) -> String {
    let failures: usize = files.iter().map(|file| file.findings.len()).sum();
    let tests: usize = files.iter().map(|file| file.findings.len().max(1)).sum();
    let mut out =
        format!("{HEAD}<testsuites name=\"ctrbuild lint\" tests=\"{tests}\" failures=\"{failures}\">\n");
    for file in files {
        let name = escape(file.source.name());
        let count = file.findings.len();
        let _ = writeln!(
            out,
            "  <testsuite name=\"{name}\" tests=\"{}\" failures=\"{count}\" errors=\"0\">",
            count.max(1)
        );
        for finding in file.findings {
            let ((line, column), _) = places(file.source, &finding.diagnostic);
            let message = escape(&finding.diagnostic.message);
            let rule = escape(&finding.diagnostic.rule);
            let _ = writeln!(
                out,
                "    <testcase name=\"{rule}\" classname=\"{name}\" line=\"{line}\">\n      <failure message=\"{message}\" type=\"{}\">{name}:{line}:{column}</failure>\n    </testcase>",
                finding.diagnostic.severity.name(),
            );
        }
        if count == 0 {
            let _ = writeln!(out, "    <testcase name=\"lint\" classname=\"{name}\"/>");
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}
