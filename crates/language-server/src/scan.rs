//! Where variables are used in a text: in the words of instructions, and in shell text.
//!
//! Only places are found here; which variable a name means is said in [`crate::index`].

use lint::shell::ast::Span;

/// How a text quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// A word of an instruction, with its escape character.
    Word(char),
    /// The body of a heredoc that COPY writes: quotes are characters like any other.
    Body,
    /// Shell text.
    Shell,
}

/// `$name` or `${name…}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// The name.
    pub name: String,
    /// The name alone.
    pub span: Span,
    /// It stands where it does not expand: in single quotes, behind an escape.
    pub quoted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    Plain,
    Double,
    /// `$(…)`: plain text up to the parenthesis.
    Paren,
    /// `${…}`.
    Brace,
}

/// Every use of a variable, in order of the text.
pub fn uses(text: &str, rules: Rules) -> Vec<Use> {
    let mut scanner =
        Scanner { text, at: 0, rules, out: Vec::new(), stack: vec![Inside::Plain], pending: Vec::new() };
    while scanner.step() {}
    scanner.out
}

/// Length of the variable's name that a text starts with.
pub fn name_length(text: &str) -> usize {
    match text.as_bytes().first() {
        Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => {
            text.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_').count()
        }
        _ => 0,
    }
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
    rules: Rules,
    out: Vec<Use>,
    stack: Vec<Inside>,
    /// Heredocs of the shell whose bodies start on the next line: delimiter, and whether it was quoted.
    pending: Vec<(String, bool)>,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn inside(&self) -> Inside {
        self.stack.last().copied().unwrap_or(Inside::Plain)
    }

    fn step(&mut self) -> bool {
        let Some(c) = self.rest().chars().next() else { return false };
        let shell = self.rules == Rules::Shell;
        let escape = match self.rules {
            Rules::Word(escape) => escape,
            Rules::Body | Rules::Shell => '\\',
        };
        if c == escape {
            self.at += c.len_utf8();
            if self.rest().starts_with('$') {
                self.dollar(true);
            } else {
                self.at += self.rest().chars().next().map_or(0, char::len_utf8);
            }
            return true;
        }
        let quotes = self.rules != Rules::Body;
        match c {
            '$' => self.dollar(false),
            '\'' if quotes && self.inside() != Inside::Double && !self.in_double_brace() => self.single(),
            '"' if quotes => {
                self.at += 1;
                match self.inside() {
                    Inside::Double => drop(self.stack.pop()),
                    _ => self.stack.push(Inside::Double),
                }
            }
            ')' if self.inside() == Inside::Paren => self.pop(),
            '}' if self.inside() == Inside::Brace => self.pop(),
            '(' if shell && matches!(self.inside(), Inside::Paren) => {
                self.at += 1;
                self.stack.push(Inside::Paren);
            }
            '#' if shell
                && matches!(self.inside(), Inside::Plain | Inside::Paren)
                && self.at_word_start() =>
            {
                self.at += self.rest().find('\n').unwrap_or(self.rest().len());
            }
            '<' if shell && self.inside() == Inside::Plain && self.rest().starts_with("<<") => {
                self.heredoc_mark()
            }
            '\n' if !self.pending.is_empty() => {
                self.at += 1;
                self.heredoc_bodies();
            }
            c => self.at += c.len_utf8(),
        }
        true
    }

    fn pop(&mut self) {
        self.at += 1;
        if self.stack.len() > 1 {
            self.stack.pop();
        }
    }

    /// `"${x:-'y'}"`: the quotes in there quote nothing.
    fn in_double_brace(&self) -> bool {
        self.rules == Rules::Shell && matches!(self.stack.as_slice(), [.., Inside::Double, Inside::Brace])
    }

    fn at_word_start(&self) -> bool {
        self.text[..self.at]
            .chars()
            .next_back()
            .is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '&' | '|' | '('))
    }

    fn single(&mut self) {
        let start = self.at + 1;
        let end = self.text[start..].find('\'').map_or(self.text.len(), |end| start + end);
        let text = self.text;
        quoted(&text[start..end], start, &mut self.out);
        self.at = (end + 1).min(text.len());
    }

    fn dollar(&mut self, escaped: bool) {
        self.at += 1;
        let braced = self.rest().starts_with('{');
        let shell = self.rules == Rules::Shell;
        if shell && !escaped && self.rest().starts_with('(') {
            self.at += 1;
            self.stack.push(Inside::Paren);
            return;
        }
        let mut start = self.at + usize::from(braced);
        if braced && shell && self.text[start..].starts_with(['#', '!']) {
            start += 1;
        }
        let length = name_length(&self.text[start..]);
        if length > 0 {
            let name = self.text[start..start + length].to_owned();
            self.out.push(Use { name, span: Span::new(start, start + length), quoted: escaped });
        }
        if braced && !escaped {
            self.stack.push(Inside::Brace);
        }
        self.at = match (length, braced) {
            (0, false) => self.at,
            (0, true) => self.at + 1,
            _ => start + length,
        };
    }

    fn heredoc_mark(&mut self) {
        self.at += 2;
        if self.rest().starts_with('<') {
            // `<<<` is a string.
            self.at += 1;
            return;
        }
        let rest = self.rest();
        let rest = rest.strip_prefix('-').unwrap_or(rest).trim_start_matches([' ', '\t']);
        let end = rest.find(|c: char| c.is_whitespace() || ";&|<>()".contains(c)).unwrap_or(rest.len());
        let name: String = rest[..end].chars().filter(|c| !matches!(c, '\'' | '"' | '\\')).collect();
        if !name.is_empty() && name_length(&name) > 0 {
            let is_quoted = name.len() != end;
            let skip = self.rest().len() - rest.len() + end;
            self.pending.push((name, is_quoted));
            self.at += skip;
        }
    }

    fn heredoc_bodies(&mut self) {
        for (name, is_quoted) in std::mem::take(&mut self.pending) {
            let start = self.at;
            let mut end = start;
            while end < self.text.len() {
                let line = self.text[end..].split_inclusive('\n').next().unwrap_or_default();
                if line.trim_start_matches('\t').trim_end_matches(['\r', '\n']) == name {
                    self.at = end + line.len();
                    break;
                }
                end += line.len();
                self.at = end;
            }
            let body = &self.text[start..end];
            match is_quoted {
                true => quoted(body, start, &mut self.out),
                false => self.out.extend(uses(body, Rules::Body).into_iter().map(|one| Use {
                    span: Span { start: one.span.start + start as u32, end: one.span.end + start as u32 },
                    ..one
                })),
            }
        }
    }
}

/// What looks like a use in a text where nothing expands.
fn quoted(text: &str, at: usize, out: &mut Vec<Use>) {
    for (index, _) in text.match_indices('$') {
        let start = index + 1 + usize::from(text[index + 1..].starts_with('{'));
        let length = name_length(&text[start..]);
        if length > 0 {
            let name = text[start..start + length].to_owned();
            out.push(Use { name, span: Span::new(at + start, at + start + length), quoted: true });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, rules: Rules) -> String {
        let list = uses(text, rules);
        for one in &list {
            assert_eq!(text.get(one.span.start as usize..one.span.end as usize), Some(one.name.as_str()));
        }
        let words = list.iter().map(|one| format!("{}{}", if one.quoted { "'" } else { "" }, one.name));
        words.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn words() {
        let word = |text| shown(text, Rules::Word('\\'));
        assert_eq!(word(r#"$a${b}${c:-$d}"${e}'$f'"'$g'\$h$1$$"#), "a b c d e f 'g 'h");
        assert_eq!(word(r"\\$a ${b%%.*} ${c/$d/x}"), "a b c d");
        assert_eq!(shown("`$a $b", Rules::Word('`')), "'a b");
        assert_eq!(shown("it's $a \"$b", Rules::Body), "a b");
    }

    #[test]
    fn shell() {
        let shell = |text| shown(text, Rules::Shell);
        assert_eq!(
            shell(r#"a=$b; echo "$(c '$d' "$e")" '$f' ${#g} $((h + $i)) `echo $j`"#),
            "b 'd e 'f g i j"
        );
        assert_eq!(shell("# don't $a\necho $b # it's\necho $c"), "b c");
        assert_eq!(shell("cat <<E <<'F'\n$a it's\nE\n$b\nF\necho $c"), "a 'b c");
        assert_eq!(shell(r#"echo "${a:-'$b'}" $c <<<$d"#), "a b c d");
        assert_eq!(shell("x () { $a; } ; (cd $b) ; case $c in $d) $e;; esac"), "a b c d e");
    }
}
