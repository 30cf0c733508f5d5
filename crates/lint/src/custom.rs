//! Rules of users, as data.
//!
//! ```toml
//! [[lint.rule]]
//! name = "no-npm"
//! message = "use pnpm instead of npm"
//! severity = "error"              # default: warning
//! instruction = ["RUN"]           # default: any
//! command = "npm"                 # a command inside of RUN; a glob
//! args = ["install"]              # the command has all of these; globs
//! without = ["--ignore-scripts"]  # and none of these
//! value = "*"                     # a glob over the whole instruction
//! stage = "last"                  # last, any, or a stage's name; default: any
//! replace = "pnpm"                # fix: what comes instead of the command's name
//! bad = "FROM a\nRUN npm install\n"
//! good = "FROM a\nRUN pnpm install\n"
//! fixed = "FROM a\nRUN pnpm install\n"   # what the fix makes of the bad one
//! ```

use crate::config::{ConfigError, Level, Options, read_severity};
use crate::context::{Context, Finding, Node, Origin};
use diagnostic::{Applicability, Diagnostic, Fix, Severity, SourceFile, TextRange};
use dockerfile::glob;
use serde::Deserialize;

/// A rule as it is written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default, deny_unknown_fields)]
pub struct CustomRuleV1 {
    /// Its name.
    pub name: String,
    /// What is wrong.
    pub message: String,
    /// How grave it is.
    pub severity: Option<String>,
    /// Instructions it looks at.
    pub instruction: Vec<String>,
    /// A command inside of RUN.
    pub command: Option<String>,
    /// Arguments the command has.
    pub args: Vec<String>,
    /// Arguments the command has not.
    pub without: Vec<String>,
    /// A flag of the instruction, such as `--mount=*`.
    pub flag: Option<String>,
    /// The whole instruction.
    pub value: Option<String>,
    /// The stage.
    pub stage: Option<String>,
    /// What to write instead of the command's name.
    pub replace: Option<String>,
    /// A recipe it must complain about.
    pub bad: Option<String>,
    /// A recipe it must not complain about.
    pub good: Option<String>,
    /// What its fix makes of the bad one.
    pub fixed: Option<String>,
}

/// A rule that was checked.
#[derive(Clone, Debug)]
pub struct CustomRule {
    text: CustomRuleV1,
    severity: Option<Severity>,
    default: Severity,
}

impl CustomRule {
    /// Checks a rule and runs its tests.
    ///
    /// # Errors
    /// The rule has no name or message, a glob is no glob, or a test fails.
    pub fn new(text: CustomRuleV1) -> Result<Self, ConfigError> {
        let wrong = |message: String, culprit: Option<&String>| ConfigError::Custom {
            name: text.name.clone(),
            message,
            culprit: culprit.cloned(),
        };
        let fail = |message: &str| wrong(message.to_owned(), None);
        if text.name.is_empty() || text.message.is_empty() {
            return Err(fail("a rule needs a name and a message"));
        }
        if crate::find_rule(&text.name).is_some() {
            return Err(wrong("the name is taken".into(), Some(&text.name)));
        }
        if text.command.is_none()
            && (!text.args.is_empty() || !text.without.is_empty() || text.replace.is_some())
        {
            return Err(fail("args, without and replace need a command"));
        }
        let known = |name: &String| {
            dockerfile::INSTRUCTIONS.iter().any(|instruction| instruction.name.eq_ignore_ascii_case(name))
        };
        if let Some(name) = text.instruction.iter().find(|name| !known(name)) {
            return Err(wrong(format!("there is no instruction {name:?}"), Some(name)));
        }
        let globs =
            text.command.iter().chain(&text.args).chain(&text.without).chain(&text.flag).chain(&text.value);
        for pattern in globs {
            glob::matches(pattern, "")
                .map_err(|_| wrong(format!("pattern {pattern:?} has a syntax error"), Some(pattern)))?;
        }
        let default = match &text.severity {
            None => Severity::Warning,
            Some(name) => {
                read_severity(name).ok_or_else(|| wrong(format!("{name:?} is no severity"), Some(name)))?
            }
        };
        if text.fixed.is_some() && (text.bad.is_none() || text.replace.is_none()) {
            return Err(wrong("fixed needs bad and replace".into(), text.fixed.as_ref()));
        }
        let rule = Self { text, severity: Some(default), default };
        let look = |recipe: &str| {
            let parsed = dockerfile::parse(SourceFile::new("test", recipe));
            let options = Options { inline: false, ..Options::default() };
            rule.check(&Context::new(&parsed, &options))
        };
        let finds = |recipe: &str| !look(recipe).is_empty();
        // From the end, so that places stay valid.
        let repair = |bad: &str| {
            let fixes = look(bad).into_iter().rev().filter_map(|found| found.diagnostic.fix);
            fixes.fold(bad.to_owned(), |text, fix| fix.apply(&text).unwrap_or(text))
        };
        if let (Some(bad), Some(fixed)) = (&rule.text.bad, &rule.text.fixed) {
            let made = repair(bad);
            if made != *fixed {
                let (message, culprit) =
                    (format!("the fix makes {made:?} of the bad example"), Some(fixed.clone()));
                return Err(ConfigError::Custom { name: rule.text.name, message, culprit });
            }
        }
        let failed = match (&rule.text.bad, &rule.text.good) {
            (Some(bad), _) if !finds(bad) => Some(("nothing is found in the bad example", bad.clone())),
            (_, Some(good)) if finds(good) => Some(("something is found in the good example", good.clone())),
            _ => None,
        };
        if let Some((message, example)) = failed {
            let culprit = Some(example);
            return Err(ConfigError::Custom { name: rule.text.name, message: message.into(), culprit });
        }
        Ok(rule)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.text.name
    }

    /// What it says and its examples, as Markdown.
    pub fn document(&self) -> String {
        let severity = self.severity.map_or("off", Severity::name);
        let mut out = format!(
            "# {}\n\n{}.\n\nA rule of `ctrbuild.toml`; severity: {severity}.\n",
            self.text.name, self.text.message
        );
        for (title, text) in [("Bad", &self.text.bad), ("Good", &self.text.good), ("Fixed", &self.text.fixed)]
        {
            if let Some(text) = text {
                out.push_str(&format!("\n## {title}\n```dockerfile\n{}\n```\n", text.trim_end()));
            }
        }
        out
    }

    /// Its name, how grave it is, and what it says, as a row of a list.
    pub fn row(&self) -> (&str, &'static str, &str) {
        (&self.text.name, self.severity.map_or("off", Severity::name), &self.text.message)
    }

    /// Whether it runs.
    pub const fn is_on(&self) -> bool {
        self.severity.is_some()
    }

    /// Sets whether and how it runs.
    pub fn set(&mut self, level: Level) {
        self.severity = match level {
            Level::Off => None,
            Level::On => Some(self.default),
            Level::As(severity) => Some(severity),
        };
    }

    /// Looks for it.
    pub fn check(&self, cx: &Context<'_>) -> Vec<Finding> {
        let Some(severity) = self.severity else { return Vec::new() };
        let mut out = Vec::new();
        let mut report = |range: TextRange, fix: Option<Fix>| {
            let mut diagnostic =
                Diagnostic::new(self.text.name.clone(), severity, range, self.text.message.clone());
            diagnostic.fix = fix;
            let line = cx.instruction_line(range.start);
            out.push(Finding {
                diagnostic,
                rule: None,
                instruction_line: line,
                scope: Some(line),
                origin: Origin::Rule,
            });
        };
        for (stage, from) in cx.froms() {
            let fits =
                self.text.command.is_none() && self.fits("FROM", &from.code, &from.flags, cx, stage.index);
            if fits {
                report(from.range, None);
            }
        }
        for node in &cx.nodes {
            if !self.fits(node.instruction.name(), &node.located.code, &node.located.flags, cx, node.stage) {
                continue;
            }
            match &self.text.command {
                None => report(node.located.range, None),
                Some(command) => self.calls(node, command, &mut report),
            }
        }
        out
    }

    fn fits(
        &self,
        name: &str,
        code: &str,
        flags: &[dockerfile::Word],
        cx: &Context<'_>,
        stage: usize,
    ) -> bool {
        let wanted = &self.text.instruction;
        let named = wanted.is_empty() || wanted.iter().any(|other| other.eq_ignore_ascii_case(name));
        let value = self.text.value.as_deref().is_none_or(|pattern| wild(pattern, code));
        let flag = self
            .text
            .flag
            .as_deref()
            .is_none_or(|pattern| flags.iter().any(|flag| wild(pattern, &flag.value)));
        let stage = match self.text.stage.as_deref() {
            None | Some("any") => true,
            Some("last") => cx.is_last(stage),
            Some(name) => cx.stages().get(stage).and_then(|stage| stage.name.as_deref()) == Some(name),
        };
        named && value && flag && stage
    }

    fn calls(&self, node: &Node<'_>, command: &str, report: &mut impl FnMut(TextRange, Option<Fix>)) {
        let Some((_, script)) = node.run() else { return };
        for call in &script.calls {
            let has = |pattern: &String| call.args.iter().any(|arg| wild(pattern, &arg.text));
            if !wild(command, &call.name)
                || !self.text.args.iter().all(has)
                || self.text.without.iter().any(has)
            {
                continue;
            }
            let name = node.place(call.name_span);
            let fix =
                self.text.replace.as_ref().filter(|_| !script.exec).map(|with| {
                    Fix::replace(format!("write {with}"), Applicability::Unsafe, name, with.clone())
                });
            report(node.place(call.span), fix);
        }
    }
}

/// A glob whose `*` passes over `/` too.
fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> CustomRuleV1 {
        CustomRuleV1 {
            name: "no-npm".into(),
            message: "use pnpm".into(),
            command: Some("npm".into()),
            args: vec!["inst*".into()],
            replace: Some("pnpm".into()),
            bad: Some("FROM a\nRUN x && npm install\n".into()),
            good: Some("FROM a\nRUN npm run x\n".into()),
            ..CustomRuleV1::default()
        }
    }

    #[test]
    fn tests_of_rules_run() {
        assert!(CustomRule::new(rule()).is_ok());
        let wrong = CustomRuleV1 { good: rule().bad, ..rule() };
        assert!(matches!(CustomRule::new(wrong), Err(ConfigError::Custom { .. })));
        let fixed = |text: &str| CustomRuleV1 { fixed: Some(text.into()), ..rule() };
        assert!(CustomRule::new(fixed("FROM a\nRUN x && pnpm install\n")).is_ok());
        let said = CustomRule::new(fixed("FROM a\nRUN npm install\n")).map_err(|e| e.to_string()).err();
        assert!(said.is_some_and(|s| s.contains("pnpm install")), "the fix is run");
        assert!(CustomRule::new(CustomRuleV1 { replace: None, ..fixed("FROM a\n") }).is_err());
        let wrong = CustomRuleV1 { name: "DL3008".into(), ..rule() };
        assert!(CustomRule::new(wrong).is_err());
        let wrong = CustomRuleV1 { instruction: vec!["RUN".into(), "RUM".into()], ..rule() };
        let said = CustomRule::new(wrong).map_err(|error| error.to_string()).err().unwrap_or_default();
        assert!(said.contains("there is no instruction \"RUM\""), "{said}");
        let errors = CustomRuleV1 { severity: Some("error".into()), ..rule() };
        let options = Options { custom: CustomRule::new(errors).into_iter().collect(), ..Options::default() };
        let count = |text: &str| {
            let parsed = dockerfile::parse(SourceFile::new("test", text));
            crate::lint(&parsed, &options)
                .findings
                .iter()
                .filter(|one| one.diagnostic.rule == "no-npm")
                .count()
        };
        assert_eq!(count("FROM a\nRUN npm install\n"), 1);
        assert_eq!(count("FROM a\n# ctrbuild: ignore=no-npm because x\nRUN npm install\n"), 0);
        // A comment for a rule that is off here is left alone; one that is not needed is named.
        let unused = |options: &Options| {
            let recipe = "FROM a\n# ctrbuild: ignore=no-npm because x\nRUN pnpm install\n";
            let findings = crate::lint(&dockerfile::parse(SourceFile::new("test", recipe)), options).findings;
            let unused = findings.into_iter().filter(|one| one.diagnostic.rule == "unused-suppression");
            unused.map(|one| one.diagnostic.message).collect::<Vec<_>>()
        };
        assert_eq!(unused(&options), ["no-npm finds nothing here: the comment is not needed"]);
        let mut off = options.clone();
        off.custom[0].set(Level::Off);
        assert!(unused(&off).is_empty());
        assert!(wild("a*c?", "a/b/cd") && !wild("a", "ab"));
    }
}
