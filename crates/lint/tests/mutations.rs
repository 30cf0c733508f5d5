//! Laws of fix and fmt on recipes that were damaged at random: those of `testdata` and, where it is, of the
//! corpus.
//!
//! The same seed gives the same recipes. `CTRBUILD_FUZZ_SECONDS` makes it go on for longer,
//! `CTRBUILD_FUZZ_SEED` starts elsewhere. A recipe that breaks a law is made smaller before it is shown.

mod meaning;

use diagnostic::{Applicability, Fix, SourceFile};
use dockerfile::Parsed;
use dockerfile::syntax::TokenKind;
use lint::fix::Which;
use lint::{Options, Profile};
use meaning::view;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const SECONDS: u64 = 4;
const SEED: u64 = 0x5eed_0fec_19e5;

/// What is put into recipes.
const PIECES: &[&str] = &[
    " \\\n",
    "\\\n\n",
    "\\\n# c\n",
    "# c\n",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\"",
    "'",
    "`",
    "$",
    "${x:-y}",
    "$x",
    "&&",
    " | ",
    ";",
    "<<EOF\n",
    "EOF\n",
    "<<-\"E F\"\n\tx\nE F\n",
    "[",
    "]",
    "[\"a\", 'b']",
    "[ \"a\" ]",
    "\\",
    "\\\\",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=a\n",
    "# hadolint ignore=DL3008\n",
    "# ctrbuild: ignore=all because x\n",
    "ONBUILD ",
    "FROM a AS b\n",
    "from  a  as  B\n",
    "RUN apt-get install x\n",
    "RUN cd a && sudo b\n",
    "ENV a b c\n",
    "ENV a=1 b='2 3'\n",
    "LABEL a b\n",
    "CMD a b\n",
    "ENTRYPOINT [ 'x' ]\n",
    "COPY a b c\n",
    "COPY --from=b --chown=1 a /\n",
    "ADD a b\n",
    "HEALTHCHECK CMD curl x\n",
    "HEALTHCHECK  --interval=1s  NONE\n",
    "MAINTAINER me \"x\"\n",
    "EXPOSE 80/TCP 90\n",
    "WORKDIR a\n",
    "USER root\n",
    "SHELL [\"bash\", \"-c\"]\n",
    "RUN <<A <<B\nx\nA\ny\nB\n",
    "RUN --mount=type=cache,target=/x y\n",
    "RUN x=$(y) z `w` $v *.c\n",
    "RUN echo -e 'a\\n'\n",
    "RUN [[ a == b ]] &> c\n",
    "RUN wget x && curl y | sh\n",
    "é",
    "\u{a0}",
    "\u{feff}",
    "\u{2028}",
    "\0",
    "\x0b",
    "ARG A=1 B\n",
    "STOPSIGNAL 9\n",
    "VOLUME [\"a\"] b\n",
];

/// xorshift64*: small, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn word(&mut self, all: &[&'static str]) -> &'static str {
        all[self.below(all.len())]
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() {
            files(&path, out);
        } else if name.contains("ockerfile") && !name.ends_with(".snap") {
            out.push(path);
        }
    }
}

/// Recipes to start from, short ones: long ones only take longer.
fn seeds() -> Vec<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    files(&here.join("../../testdata/dockerfile"), &mut paths);
    files(&here.join("../../../shared/corpus/files"), &mut paths);
    paths.sort();
    let texts = paths.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    let mut all: Vec<String> = texts.filter(|text| text.len() < 6000).collect();
    all.extend(lint::RULES.iter().map(|rule| rule.bad.to_owned()));
    all.retain(|text| !text.is_empty());
    all
}

fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

fn mutate(text: &mut String, all: &[String], dice: &mut Dice) {
    let at = boundary(text, dice.below(text.len() + 1));
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    let line = dice.below(lines.len());
    match dice.below(12) {
        0..=3 => text.insert_str(at, dice.word(PIECES)),
        4 => {
            let end = boundary(text, at + dice.below(12)).max(at);
            text.replace_range(at..end, "");
        }
        5 if !lines.is_empty() => {
            lines.remove(line);
            *text = lines.concat();
        }
        6 if !lines.is_empty() => {
            let copy = lines[line].clone();
            lines.insert(dice.below(lines.len()), copy);
            *text = lines.concat();
        }
        7 | 8 => {
            let other: Vec<&str> = dice.of(all).split_inclusive('\n').collect();
            let from = dice.below(other.len());
            let some = other[from..].iter().take(1 + dice.below(6)).copied().collect::<String>();
            let at = text[..at].rfind('\n').map_or(0, |at| at + 1);
            text.insert_str(at, &some);
        }
        9 if !lines.is_empty() => {
            lines[line].insert_str(0, dice.word(PIECES));
            *text = lines.concat();
        }
        10 => *text = text.replacen(' ', dice.word(&["  ", "\t", " \\\n  ", "\\\n", ""]), 1 + dice.below(5)),
        11 if dice.below(4) == 0 => *text = text.replace('\n', "\r\n"),
        _ => text.truncate(at.max(text.len() / 2).min(text.len())),
    }
    let end = boundary(text, text.len());
    text.truncate(end);
}

fn parse(text: &str) -> Parsed {
    dockerfile::parse(SourceFile::new("Dockerfile", text))
}

fn comments(parsed: &Parsed) -> Vec<&str> {
    let tokens = parsed.tree.tokens().iter().filter(|token| token.kind == TokenKind::Comment);
    tokens.map(|token| parsed.source.slice(token.range).trim_start_matches('#').trim()).collect()
}

/// The law that a recipe breaks.
fn broken(text: &str) -> Option<String> {
    let parsed = parse(text);
    if parsed.print() != parsed.source.text() {
        return Some("the tree does not print the text".into());
    }
    let text = parsed.source.text();
    if !parsed.has_errors()
        && let Ok(formatted) = lint::fmt::format(&parsed)
    {
        let next = parse(&formatted.text);
        if next.has_errors() || view(&parsed) != view(&next) {
            return Some(format!("fmt changes what it means:\n{}", formatted.text));
        }
        if comments(&parsed) != comments(&next) {
            return Some(format!("fmt loses a comment:\n{}", formatted.text));
        }
        match lint::fmt::format(&next) {
            Ok(again) if again.text == formatted.text => {}
            Ok(again) => {
                return Some(format!("fmt is not idempotent:\n{}----\n{}", formatted.text, again.text));
            }
            Err(e) => return Some(format!("fmt refuses its own: {e}\n{}", formatted.text)),
        }
    }
    let options = Options::of(Profile::All);
    let report = lint::lint(&parsed, &options);
    let all: Vec<&Fix> = report.findings.iter().filter_map(|one| one.diagnostic.fix.as_ref()).collect();
    if let Some(fix) = all.iter().find(|fix| fix.apply(text).is_none()) {
        return Some(format!("a fix does not apply: {}", fix.title));
    }
    for which in [Which::Safe, Which::All] {
        let outcome = lint::fix::fix(&parsed, &options, which);
        let next = parse(&outcome.text);
        if next.errors.len() > parsed.errors.len() || (!parsed.has_errors() && next.has_errors()) {
            return Some(format!("{which:?} fixes break it:\n{}", outcome.text));
        }
        if next.statements.len() != parsed.statements.len() {
            return Some(format!("{which:?} fixes change the number of instructions:\n{}", outcome.text));
        }
        let drops = outcome.made.iter().any(|made| made.rule == "unused-suppression");
        if !drops && comments(&parsed) != comments(&next) {
            return Some(format!("{which:?} fixes lose a comment:\n{}", outcome.text));
        }
        if lint::fix::fix(&next, &options, which).text != outcome.text {
            return Some(format!("{which:?} fixes are not idempotent:\n{}", outcome.text));
        }
        // What was not refused is not there any more.
        let left = lint::lint(&next, &options).findings.into_iter().find(|finding| {
            let fix = finding.diagnostic.fix.as_ref();
            let wanted =
                fix.is_some_and(|fix| which == Which::All || fix.applicability == Applicability::Safe);
            wanted && !outcome.dropped.iter().any(|dropped| dropped.rule == finding.diagnostic.rule)
        });
        if let Some(left) = left {
            return Some(format!("{which:?} fixes leave {}:\n{}", left.diagnostic.rule, outcome.text));
        }
    }
    None
}

/// The same fault in a shorter recipe.
fn smaller(text: String) -> String {
    let kind = |text: &str| broken(text).map(|law| law.chars().take(18).collect::<String>());
    let Some(law) = kind(&text) else { return text };
    let mut text = text;
    for size in [16, 4, 1] {
        let mut at = 0;
        loop {
            let lines: Vec<&str> = text.split_inclusive('\n').collect();
            if at >= lines.len() {
                break;
            }
            let end = (at + size).min(lines.len());
            let less = [&lines[..at], &lines[end..]].concat().concat();
            match kind(&less) == Some(law.clone()) {
                true => text = less,
                false => at += 1,
            }
        }
    }
    text
}

#[test]
fn laws_hold_for_damaged_recipes() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = number("CTRBUILD_FUZZ_SECONDS").unwrap_or(SECONDS);
    let mut dice = Dice(number("CTRBUILD_FUZZ_SEED").unwrap_or(SEED).max(1));
    let all = seeds();
    let start = Instant::now();
    let (mut tried, mut wrong) = (0, Vec::new());
    while start.elapsed() < Duration::from_secs(seconds) && wrong.len() < 5 {
        let mut text = dice.of(&all).clone();
        for _ in 0..1 + dice.below(6) {
            mutate(&mut text, &all, &mut dice);
        }
        tried += 1;
        if broken(&text).is_some() {
            let text = smaller(text);
            wrong.push(format!("{text:?}\n{}", broken(&text).unwrap_or_default()));
        }
    }
    println!("mutations: {tried} recipes in {} s", start.elapsed().as_secs());
    assert!(wrong.is_empty(), "{}", wrong.join("\n====\n"));
}

/// What was found this way.
#[test]
fn recipes_that_once_broke_a_law() {
    for text in BROKEN {
        assert_eq!(broken(text), None, "{text:?}");
    }
}

const BROKEN: &[&str] = &[];
