//! `--chmod`'s symbolic modes: `u=rwX,go=rX`, as BSD's setmode(3) reads them with a umask of 0.
//!
//! Where that differs from GNU's chmod(1), BuildKit follows BSD and so does this:
//! - `X` looks at the mode before any change (`a-x,a+X` keeps a program executable), and `-X` is `-x`;
//! - `s` and `t` of `o` alone mean nothing, and `=` never clears the sticky bit;
//! - without a class, `t` leaves only the sticky bit of its clause in force;
//! - copies (`g=u`) take effect where they stand in a list of permissions, so `u=gr` is `u=r`.

const SET_ID: u32 = 0o6000;
const STICKY: u32 = 0o1000;
/// What `a` and a missing class mean; not the sticky bit.
const STANDARD: u32 = 0o6777;

/// A parsed symbolic mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Step>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Add(u32),
    Remove(u32),
    /// Added to folders and to what was executable for somebody at first.
    AddIfExecutable(u32),
    /// The rwx bits of the class at `from` (6, 3 or 0), for the classes in `to`.
    Copy {
        from: u32,
        to: u32,
        op: u8,
    },
}

impl SymbolicMode {
    /// `None` if the text is no symbolic mode.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text.as_bytes();
        let mut steps = Vec::new();
        // Whether an `=` has cleared its classes already; one that copies needs no further clearing.
        let mut cleared = false;
        loop {
            let mut who = 0;
            while let Some(class) = class(*rest.first()?) {
                who |= class;
                rest = &rest[1..];
            }
            loop {
                let op = *rest.first()?;
                if !matches!(op, b'+' | b'-' | b'=') {
                    return None;
                }
                cleared &= op != b'=';
                rest = permissions(&rest[1..], op, who, &mut cleared, &mut steps);
                match rest.first() {
                    None => return Some(SymbolicMode(steps)),
                    Some(b',') => break,
                    Some(_) => {}
                }
            }
            rest = &rest[1..];
        }
    }

    /// The new permission bits of something that has `mode`.
    pub fn apply(&self, mode: u32, is_dir: bool) -> u32 {
        let before = mode & 0o7777;
        self.0.iter().fold(before, |mode, step| match *step {
            Step::Add(bits) => mode | bits,
            Step::Remove(bits) => mode & !bits,
            Step::AddIfExecutable(bits) if is_dir || before & 0o111 != 0 => mode | bits,
            Step::AddIfExecutable(_) => mode,
            Step::Copy { from, to, op } => {
                let copied = ((mode >> from & 7) * 0o111) & to;
                match op {
                    b'+' => mode | copied,
                    b'-' => mode & !copied,
                    _ => (mode & !to) | copied,
                }
            }
        })
    }
}

fn class(c: u8) -> Option<u32> {
    match c {
        b'a' => Some(STANDARD),
        b'u' => Some(0o4700),
        b'g' => Some(0o2070),
        b'o' => Some(0o0007),
        _ => None,
    }
}

/// Read permissions after an operator; what is left of the text.
fn permissions<'t>(
    mut rest: &'t [u8],
    op: u8,
    mut who: u32,
    cleared: &mut bool,
    steps: &mut Vec<Step>,
) -> &'t [u8] {
    let others_only = who != 0 && who & !0o7 == 0;
    let (mut bits, mut conditional) = (0, 0);
    loop {
        match rest.first() {
            Some(b'r') => bits |= 0o444,
            Some(b'w') => bits |= 0o222,
            Some(b'x') => bits |= 0o111,
            Some(b'X') if op == b'-' => bits |= 0o111,
            Some(b'X') => conditional = 0o111,
            Some(b's') if others_only => {}
            Some(b's') => bits |= SET_ID,
            Some(b't') if others_only => {}
            Some(b't') => {
                who |= STICKY;
                bits |= STICKY;
            }
            Some(&from @ (b'u' | b'g' | b'o')) => {
                if bits != 0 {
                    change(op, who, bits, steps);
                    bits = 0;
                }
                *cleared |= op == b'=';
                if conditional != 0 {
                    steps.push(Step::AddIfExecutable(limit(conditional, who)));
                    conditional = 0;
                }
                let from = match from {
                    b'u' => 6,
                    b'g' => 3,
                    _ => 0,
                };
                let to = if who == 0 { 0o777 } else { copy_classes(who) };
                steps.push(Step::Copy { from, to, op });
            }
            _ => {
                if bits != 0 || op == b'=' && !*cleared {
                    *cleared |= op == b'=';
                    change(op, who, bits, steps);
                }
                if conditional != 0 {
                    steps.push(Step::AddIfExecutable(limit(conditional, who)));
                }
                return rest;
            }
        }
        rest = &rest[1..];
    }
}

fn change(op: u8, who: u32, bits: u32, steps: &mut Vec<Step>) {
    match op {
        b'-' => steps.push(Step::Remove(limit(bits, who))),
        b'+' => steps.push(Step::Add(limit(bits, who))),
        _ => {
            steps.push(Step::Remove(if who == 0 { STANDARD } else { who }));
            steps.push(Step::Add(limit(bits, who)));
        }
    }
}

fn limit(bits: u32, who: u32) -> u32 {
    if who == 0 { bits } else { bits & who }
}

/// The rwx bits of the classes in `who`.
fn copy_classes(who: u32) -> u32 {
    [0o700, 0o070, 0o007].into_iter().filter(|class| who & class & 0o444 != 0).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_setmode() {
        let cases = [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("+x", 0o644, false, 0o755),
            ("a-w", 0o666, false, 0o444),
            ("g=u", 0o740, false, 0o770),
            ("u+s,u+t", 0o755, false, 0o5755),
            ("o+st", 0o755, false, 0o755),
            ("go=", 0o777, false, 0o700),
            ("=", 0o7777, false, 0o1000),
            ("u-x+w", 0o500, false, 0o600),
            ("a-x,a+X", 0o755, false, 0o755),
            ("a-x,a+X", 0o644, false, 0o644),
            ("a-X", 0o755, true, 0o644),
            ("u=gr", 0o750, false, 0o450),
            ("u=rg", 0o750, false, 0o550),
            ("go=u-w", 0o700, false, 0o755),
            ("+rt", 0o000, false, 0o1000),
            ("u+", 0o644, false, 0o644),
            ("a=u", 0o700, false, 0o777),
            ("o-g", 0o777, false, 0o770),
        ];
        for (text, mode, dir, want) in cases {
            let got = SymbolicMode::parse(text).unwrap().apply(mode, dir);
            assert_eq!(got, want, "{text} on {mode:o}: {got:o}");
        }
        for bad in ["u", "z+r", "", "u=r,", "755x", "u=r;", ",u=r", "u=z"] {
            assert_eq!(SymbolicMode::parse(bad), None, "{bad}");
        }
    }
}
