//! chmod(1)'s symbolic modes: `u=rwX,go=rX`, with a umask of 0 as BuildKit has it.

/// A parsed symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Clause>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Clause {
    /// Mask of the classes: 0o4700 for u, 0o2070 for g, 0o1007 for o.
    who: u32,
    op: char,
    perms: Perms,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Perms {
    /// `r w x` in every class; `X` conditional; `s` and `t`.
    Bits { rwx: u32, conditional_x: bool, setid: bool, sticky: bool },
    /// Copy from a class (`g=u`).
    Copy(char),
}

impl SymbolicMode {
    /// `None` if the text is no symbolic mode.
    pub fn parse(text: &str) -> Option<Self> {
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            let ops = clause.find(['+', '-', '='])?;
            let (who, mut rest) = clause.split_at(ops);
            let mut mask = 0;
            for c in who.chars() {
                mask |= match c {
                    'u' => 0o4700,
                    'g' => 0o2070,
                    'o' => 0o1007,
                    'a' => 0o7777,
                    _ => return None,
                };
            }
            if mask == 0 {
                mask = 0o7777;
            }
            while let Some(op) = rest.chars().next() {
                let end = rest[1..].find(['+', '-', '=']).map_or(rest.len(), |i| i + 1);
                clauses.push(Clause { who: mask, op, perms: parse_perms(&rest[1..end])? });
                rest = &rest[end..];
            }
        }
        (!clauses.is_empty()).then_some(SymbolicMode(clauses))
    }

    /// The new permission bits of something that has `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        self.0.iter().fold(mode & 0o7777, |mode, clause| clause.apply(mode, is_dir))
    }
}

fn parse_perms(text: &str) -> Option<Perms> {
    if let "u" | "g" | "o" = text {
        return text.chars().next().map(Perms::Copy);
    }
    let (mut rwx, mut conditional_x, mut setid, mut sticky) = (0, false, false, false);
    for c in text.chars() {
        match c {
            'r' => rwx |= 4,
            'w' => rwx |= 2,
            'x' => rwx |= 1,
            'X' => conditional_x = true,
            's' => setid = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Perms::Bits { rwx, conditional_x, setid, sticky })
}

impl Clause {
    fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let bits = match &self.perms {
            Perms::Copy(class) => {
                let shift = match class {
                    'u' => 6,
                    'g' => 3,
                    _ => 0,
                };
                (mode >> shift & 7) * 0o111
            }
            Perms::Bits { rwx, conditional_x, setid, sticky } => {
                let mut rwx = *rwx;
                if *conditional_x && (is_dir || mode & 0o111 != 0) {
                    rwx |= 1;
                }
                let mut bits = rwx * 0o111;
                if *setid {
                    bits |= 0o6000;
                }
                if *sticky {
                    bits |= 0o1000;
                }
                bits
            }
        } & self.who;
        match self.op {
            '+' => mode | bits,
            '-' => mode & !bits,
            // `=` clears the rwx of its classes, and their special bits.
            _ => mode & !self.who | bits,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_chmod() {
        let cases = [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s,o+t", 0o755, false, 0o5755),
            ("go=", 0o777, false, 0o700),
            ("u-x+w", 0o500, false, 0o600),
        ];
        for (text, mode, dir, want) in cases {
            let got = SymbolicMode::parse(text).unwrap().apply(mode, dir);
            assert_eq!(got, want, "{text} on {mode:o}: {got:o}");
        }
        assert_eq!(SymbolicMode::parse("u"), None);
        assert_eq!(SymbolicMode::parse("z+r"), None);
        assert_eq!(SymbolicMode::parse(""), None);
    }
}
