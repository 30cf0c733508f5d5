//! What the file of a rule starts with.

pub(super) use crate::context::{Context, Sink};
pub(super) use crate::rule::{Default, Group, Rule};
pub(super) use crate::semantics::Check;
pub(super) use crate::shell::Call;
pub(super) use diagnostic::{Applicability, Edit, Fix, Severity, TextRange};
pub(super) use dockerfile::{Command, Instruction, Word};
