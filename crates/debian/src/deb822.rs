//! Debian control paragraphs ("deb822"): fields with folded lines, paragraphs parted by empty lines.
//!
//! Source: Debian policy, chapter 5, and deb822(5). Field names compare without case. The parser
//! borrows from its input: a 50 MB index makes no copies.
//!
//! Deliberately not here: comments inside values, which no archive index has.

/// One paragraph: fields in the order they were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paragraph<'a> {
    fields: Vec<(&'a str, &'a str)>,
}

/// Why a text is not a sequence of paragraphs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct ParagraphError {
    /// Counted from 1.
    pub line: usize,
    pub why: &'static str,
}

impl<'a> Paragraph<'a> {
    /// The field's raw value: first line without leading blanks, folded lines as written.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.fields.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| *v)
    }

    /// Name and value of every field, in order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> + '_ {
        self.fields.iter().copied()
    }
}

/// Walks through the paragraphs of `text`. Stops after the first error.
pub fn paragraphs(text: &str) -> Paragraphs<'_> {
    Paragraphs { text, at: 0, line: 0, failed: false }
}

/// Iterator over paragraphs, from [`paragraphs`].
#[derive(Debug, Clone)]
pub struct Paragraphs<'a> {
    text: &'a str,
    at: usize,
    line: usize,
    failed: bool,
}

impl<'a> Paragraphs<'a> {
    fn error(&mut self, why: &'static str) -> Option<Result<Paragraph<'a>, ParagraphError>> {
        self.failed = true;
        Some(Err(ParagraphError { line: self.line, why }))
    }
}

impl<'a> Iterator for Paragraphs<'a> {
    type Item = Result<Paragraph<'a>, ParagraphError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let mut fields: Vec<(&'a str, &'a str)> = Vec::with_capacity(24);
        // Where the value of the last field starts and ends.
        let mut value = (0, 0);
        while self.at < self.text.len() {
            let start = self.at;
            let rest = &self.text[start..];
            let (line, next) = match rest.find('\n') {
                Some(n) => (&rest[..n], start + n + 1),
                None => (rest, self.text.len()),
            };
            self.line += 1;
            let line = line.strip_suffix('\r').unwrap_or(line);
            self.at = next;
            if line.starts_with([' ', '\t']) && !line.trim().is_empty() {
                let Some(last) = fields.last_mut() else {
                    return self.error("a folded line without a field");
                };
                value.1 = start + line.len();
                last.1 = &self.text[value.0..value.1];
                continue;
            }
            if line.trim().is_empty() {
                if fields.is_empty() {
                    continue;
                }
                return Some(Ok(Paragraph { fields }));
            }
            if line.starts_with('#') {
                continue;
            }
            let Some(colon) = line.find(':') else { return self.error("a line without a field name") };
            let name = &line[..colon];
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
                return self.error("a malformed field name");
            }
            if fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                return self.error("a field that is there twice");
            }
            let raw = &line[colon + 1..];
            let trimmed = raw.trim_start();
            value = (start + colon + 1 + (raw.len() - trimmed.len()), start + line.len());
            let end = value.0 + trimmed.trim_end().len();
            fields.push((name, &self.text[value.0..end.max(value.0)]));
        }
        if fields.is_empty() { None } else { Some(Ok(Paragraph { fields })) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &str) -> Result<Vec<Paragraph<'_>>, ParagraphError> {
        paragraphs(text).collect()
    }

    #[test]
    fn fields_fold_and_paragraphs_part() {
        let text =
            "Package: a\nDepends: b,\n c (>= 1)\nDescription: x\n .\n y\n\n\n# note\nPackage:b\nEmpty:\n";
        let got = all(text).unwrap();
        assert_eq!(got.len(), 2);
        assert_eq!(got[0].get("package"), Some("a"));
        assert_eq!(got[0].get("Depends"), Some("b,\n c (>= 1)"));
        assert_eq!(got[0].get("Description"), Some("x\n .\n y"));
        assert_eq!(got[1].get("Package"), Some("b"));
        assert_eq!(got[1].get("Empty"), Some(""));
        assert_eq!(got[1].get("None"), None);
    }

    #[test]
    fn a_value_may_start_on_the_next_line() {
        let got = all("SHA256:\n aa 1 x\n bb 2 y\n").unwrap();
        assert_eq!(
            got[0].get("SHA256").unwrap().split_whitespace().collect::<Vec<_>>(),
            ["aa", "1", "x", "bb", "2", "y"]
        );
    }

    #[test]
    fn malformed_lines_are_named() {
        assert_eq!(all("A: 1\nnonsense\n").unwrap_err().line, 2);
        assert_eq!(all(" folded\n").unwrap_err().line, 1);
        assert_eq!(all("A: 1\na: 2\n").unwrap_err().line, 2);
        assert_eq!(all(": x\n").unwrap_err().line, 1);
        assert_eq!(all("\r\nA: 1\r\nB: 2\r\n").unwrap()[0].get("B"), Some("2"));
    }
}
