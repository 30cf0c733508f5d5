//! The second pass: statements become stages.

use crate::error::{ErrorKind, Phase, RecipeError};
use crate::instruction::{self, Instruction, Lines, Located, Meaning, Recipe, Stage};
use crate::syntax::{self, EmptyContinuation, MAX_ERRORS, Statement, Tree};
use diagnostic::{Diagnostic, SourceFile, TextRange};
use std::sync::Arc;

/// All that is known of a recipe.
#[derive(Clone, Debug)]
pub struct Parsed {
    /// The text that all ranges are about.
    pub source: Arc<SourceFile>,
    /// Every byte, as items and tokens.
    pub tree: Tree,
    /// Every instruction that could be split into arguments, also those that mean nothing.
    pub statements: Vec<Statement>,
    /// What the recipe says.
    pub recipe: Recipe,
    /// What is wrong, in order of the text.
    pub errors: Vec<RecipeError>,
    /// Blank lines inside of instructions: for the linter.
    pub empty_continuations: Vec<EmptyContinuation>,
    /// The errors as findings.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parsed {
    /// Whether the recipe can't be built.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The text, put together from the tree: always the text that was parsed.
    pub fn print(&self) -> String {
        self.tree.print(self.source.text())
    }

    /// The error that BuildKit would report: it splits the whole file before it looks at any instruction.
    pub fn first_error(&self) -> Option<&RecipeError> {
        self.errors.iter().min_by_key(|error| error.phase)
    }
}

/// Parses a recipe. Never fails; what is wrong is in [`Parsed::errors`] and [`Parsed::diagnostics`].
pub fn parse(source: impl Into<Arc<SourceFile>>) -> Parsed {
    let source = source.into();
    let output = syntax::parse(&source);
    let mut reader = Reader { errors: output.errors, ..Reader::default() };
    reader.recipe.directives = output.directives;
    for statement in &output.statements {
        reader.statement(statement);
    }
    if reader.recipe.stages.is_empty() && reader.errors.is_empty() {
        let end = source.text().len() as u32;
        let line = source.line_count();
        reader.errors.push(RecipeError {
            kind: ErrorKind::NoStages,
            phase: Phase::Stages,
            range: TextRange::empty(end),
            lines: Lines { first: line, last: line },
            buildkit_line: 0,
            related: None,
        });
    }
    let mut errors = reader.errors;
    errors.sort_by_key(|error| error.lines.first);
    let diagnostics = errors.iter().map(RecipeError::to_diagnostic).collect();
    Parsed {
        source,
        tree: output.tree,
        statements: output.statements,
        recipe: reader.recipe,
        errors,
        empty_continuations: output.empty_continuations,
        diagnostics,
    }
}

#[derive(Default)]
struct Reader {
    recipe: Recipe,
    errors: Vec<RecipeError>,
    /// A FROM could not be read: what follows it belongs to no stage, and that is no error of its own.
    lost_stage: bool,
    /// An instruction before FROM was reported.
    told_no_stage: bool,
}

impl Reader {
    fn statement(&mut self, statement: &Statement) {
        match instruction::read(statement) {
            Ok(Meaning::From(from)) => {
                let name = from.stage_name();
                let index = self.recipe.stages.len();
                let from = located(statement, from);
                self.recipe.stages.push(Stage { index, name, from, instructions: Vec::new() });
                self.lost_stage = false;
            }
            Ok(Meaning::Instruction(instruction)) => self.instruction(statement, instruction),
            Err((kind, range)) => {
                if statement.keyword.value.eq_ignore_ascii_case("from") {
                    self.lost_stage = true;
                }
                self.error(statement, kind, range);
            }
        }
    }

    fn instruction(&mut self, statement: &Statement, instruction: Instruction) {
        if self.lost_stage {
            return;
        }
        if let Some(stage) = self.recipe.stages.last_mut() {
            stage.instructions.push(located(statement, instruction));
            return;
        }
        match instruction {
            Instruction::Arg(arg) => self.recipe.meta_args.push(located(statement, arg)),
            _ if self.told_no_stage => {}
            _ => {
                self.told_no_stage = true;
                self.error(statement, ErrorKind::NoStage, statement.range);
            }
        }
    }

    fn error(&mut self, statement: &Statement, kind: ErrorKind, range: TextRange) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(RecipeError {
                kind,
                phase: Phase::Instructions,
                range,
                lines: statement.lines,
                buildkit_line: statement.lines.first,
                related: None,
            });
        }
    }
}

fn located<T>(statement: &Statement, node: T) -> Located<T> {
    Located {
        node,
        range: statement.range,
        lines: statement.lines,
        keyword: statement.keyword.clone(),
        flags: statement.flags.clone(),
        code: statement.original.trim().to_owned(),
        comments: statement.comments.clone(),
    }
}

/// Why the text of an ONBUILD trigger is no instruction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TriggerError {
    /// BuildKit's words.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Reads the text of one instruction, as an image's configuration keeps it for ONBUILD. As in BuildKit the
/// escape character is `\` whatever it was in the recipe the text comes from, and only the first instruction
/// of the text counts. Ranges are offsets in `text`.
///
/// # Errors
/// The text has an error, or holds FROM, or nothing.
pub fn parse_instruction(text: &str) -> Result<Located<Instruction>, TriggerError> {
    let source = SourceFile::new("ONBUILD", text);
    let output = syntax::parse(&source);
    let error = |kind: ErrorKind| TriggerError { message: kind.to_string(), hint: kind.hint() };
    if let Some(first) = output.errors.into_iter().next() {
        return Err(error(first.kind));
    }
    let Some(statement) = output.statements.first() else { return Err(error(ErrorKind::NoInstructions)) };
    match instruction::read(statement) {
        Ok(Meaning::Instruction(instruction)) => Ok(located(statement, instruction)),
        Ok(Meaning::From(_)) => Err(error(ErrorKind::OnbuildTrigger { name: "FROM".to_owned() })),
        Err((kind, _)) => Err(error(kind)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(text: &str) -> Vec<(&'static str, u32)> {
        let parsed = parse(SourceFile::new("Dockerfile", text));
        parsed.errors.iter().map(|error| (error.kind.code(), error.lines.first)).collect()
    }

    #[test]
    fn one_mistake_is_one_error() {
        // What follows a FROM that can't be read is no mistake of its own, but mistakes in it are.
        assert_eq!(codes("FROM a b\nRUN x\nENV\nFROM c\n"), [("from-arguments", 1), ("no-arguments", 3)]);
        assert_eq!(codes("ENV a=b\nRUN x\n"), [("no-stage", 1)]);
        assert_eq!(codes("ARG a\n"), [("no-stages", 1)]);
        assert_eq!(codes("RUM x\n"), [("unknown-instruction", 1)]);
        assert_eq!(codes("FROM a\nENV x\nRUN y\n"), [("pair-without-value", 2)]);
    }

    #[test]
    fn buildkit_reports_the_first_pass_first() {
        let parsed = parse(SourceFile::new("Dockerfile", "FROM a\nRUM x\nENV y\n"));
        let lines: Vec<u32> = parsed.errors.iter().map(|error| error.lines.first).collect();
        assert_eq!(lines, [2, 3]);
        let first = parsed.first_error().map(|error| (error.buildkit_message(), error.buildkit_line));
        assert_eq!(first, Some(("ENV must have two arguments".to_owned(), 3)));
    }

    #[test]
    fn a_stage_knows_its_place() {
        let text = "ARG v=1\nFROM a AS One\nRUN x\n# two second\nFROM --platform=$P One as two\n";
        let recipe = parse(SourceFile::new("Dockerfile", text)).recipe;
        assert_eq!(recipe.meta_args.len(), 1);
        let [one, two] = recipe.stages.as_slice() else { panic!("two stages") };
        assert_eq!((one.name.as_deref(), one.base(), one.platform()), (Some("one"), "a", None));
        assert_eq!((two.index, two.base(), two.platform()), (1, "One", Some("$P")));
        assert_eq!(two.doc(), Some("second"));
        assert_eq!(text.get(one.range().as_usize()), Some("FROM a AS One\nRUN x"));
    }

    #[test]
    fn triggers() {
        let read = |text: &str| parse_instruction(text).map(|located| located.node.name());
        assert_eq!(read("RUN <<E\nx\nE"), Ok("RUN"));
        assert_eq!(read("COPY --from=a b c\nRUN ignored"), Ok("COPY"));
        let message = |text: &str| read(text).map_err(|error| error.to_string());
        assert_eq!(message("FROM x"), Err("FROM isn't allowed as an ONBUILD trigger".to_owned()));
        assert_eq!(message("RUM x"), Err("unknown instruction: RUM (did you mean RUN?)".to_owned()));
        assert_eq!(message("ENV x"), Err("ENV must have two arguments".to_owned()));
        assert_eq!(message("RUN <<E\n"), Err("unterminated heredoc".to_owned()));
        assert!(read("").is_err() && read("# x").is_err());
    }
}
