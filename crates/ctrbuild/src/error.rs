//! The errors of the face: the recipe is wrong, or the world failed.

use dockerfile::instruction::Lines;

/// What went wrong, with what a person needs to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    pub kind: ErrorKind,
    pub message: String,
    pub hint: Option<String>,
    /// The lines of the recipe that it is about.
    pub lines: Vec<Lines>,
    /// The end of a failed step's output.
    pub log_tail: Vec<String>,
}

/// Whose fault it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The recipe or the request.
    Recipe,
    /// A step ended badly, with this exit code.
    Step(i32),
    /// The world: disk, network, registry.
    World,
    /// A name that does not exist.
    NotFound,
    /// What was asked for is in the way of something.
    Conflict,
}

impl Error {
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error { kind, message: message.into(), hint: None, lines: Vec::new(), log_tail: Vec::new() }
    }
    pub fn world(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::World, message)
    }
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
    pub fn maybe_hint(mut self, hint: Option<impl Into<String>>) -> Self {
        self.hint = hint.map(Into::into).or(self.hint);
        self
    }
}

/// A message with all its causes.
pub fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(e) = cause {
        let more = e.to_string();
        // Wrapped errors often repeat what they wrap.
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = e.source();
    }
    text
}

/// What the store says that helps, where it is the store's failure that others report.
fn store_hint(e: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    let mut cause = Some(e);
    while let Some(e) = cause {
        let inside = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(found) = inside.and_then(|inside| inside.downcast_ref::<store::Error>()) {
            return found.hint();
        }
        cause = e.source();
    }
    None
}

/// What helps where a blob of the store turned out to be damaged while it was read for others.
fn damage_hint(e: &std::io::Error) -> Option<&'static str> {
    let inside = e.get_ref()?;
    inside.is::<digest::VerifyError>().then_some("run `ctrbuild store verify --repair`, then try again")
}

impl From<store::Error> for Error {
    fn from(e: store::Error) -> Self {
        let kind = if e.is_missing() { ErrorKind::NotFound } else { ErrorKind::World };
        Error::new(kind, chain(&e)).maybe_hint(e.hint())
    }
}

impl From<registry::Error> for Error {
    fn from(e: registry::Error) -> Self {
        let damaged = match &e {
            registry::Error::Source { source, .. } => damage_hint(source),
            _ => None,
        };
        Error::world(chain(&e)).maybe_hint(store_hint(&e)).maybe_hint(e.hint()).maybe_hint(damaged)
    }
}

impl From<exporter::Error> for Error {
    fn from(e: exporter::Error) -> Self {
        let damaged = match &e {
            exporter::Error::Blob { source, .. } => damage_hint(source),
            _ => None,
        };
        Error::world(chain(&e)).maybe_hint(store_hint(&e)).maybe_hint(e.hint()).maybe_hint(damaged)
    }
}

impl From<remote::Error> for Error {
    fn from(e: remote::Error) -> Self {
        Error::world(chain(&e)).maybe_hint(e.hint())
    }
}

impl From<layer::Error> for Error {
    fn from(e: layer::Error) -> Self {
        Error::world(chain(&e)).maybe_hint(e.hint())
    }
}

impl From<wim::Error> for Error {
    fn from(e: wim::Error) -> Self {
        Error::world(chain(&e)).maybe_hint(e.hint())
    }
}

impl From<sandbox::Error> for Error {
    fn from(e: sandbox::Error) -> Self {
        Error::world(chain(&e)).maybe_hint(e.hint())
    }
}

impl From<plan::PlanError> for Error {
    fn from(e: plan::PlanError) -> Self {
        let mut error = Error::new(ErrorKind::Recipe, e.message).maybe_hint(e.hint);
        error.lines.extend(e.lines);
        error
    }
}

impl From<&solver::ErrorKind> for Error {
    fn from(e: &solver::ErrorKind) -> Self {
        match e {
            solver::ErrorKind::Step { status, log_tail, hint, .. } => {
                let code = match status {
                    solver::StepStatus::Code(c) => *c,
                    solver::StepStatus::Signal(s) => 128 + s,
                    solver::StepStatus::OutOfMemory => 137,
                    solver::StepStatus::TimedOut => 124,
                };
                let mut error = Error::new(ErrorKind::Step(code), e.to_string()).maybe_hint(hint.clone());
                error.log_tail = log_tail.clone();
                error
            }
            solver::ErrorKind::Other { message, hint } => {
                Error::world(message.clone()).maybe_hint(hint.clone())
            }
            solver::ErrorKind::Cancelled => Error::world("cancelled"),
        }
    }
}
