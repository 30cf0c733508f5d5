//! Where something stands in a configuration, for messages.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A line and a column, from 1; columns are characters.
pub(super) type Place = (usize, usize);

/// The place of a byte.
pub(super) fn of(text: &str, at: usize) -> Place {
    let before = text.get(..at).unwrap_or(text);
    let start = before.rfind('\n').map_or(0, |at| at + 1);
    (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
}

fn lint<'a>(root: &'a DeTable<'a>) -> Option<&'a DeTable<'a>> {
    child(root, "lint")?.1.get_ref().as_table()
}

fn child<'a>(table: &'a DeTable<'a>, key: &str) -> Option<(usize, &'a Spanned<DeValue<'a>>)> {
    table.iter().find(|(name, _)| name.get_ref() == key).map(|(name, value)| (name.span().start, value))
}

/// The name of a rule that `[lint.rules]` or an override sets.
pub(super) fn of_level(text: &str, rule: &str) -> Option<Place> {
    let root = DeTable::parse(text).ok()?;
    let lint = lint(root.get_ref())?;
    let rules = child(lint, "rules").into_iter().map(|(_, value)| value);
    let overrides = child(lint, "override").and_then(|(_, value)| value.get_ref().as_array());
    let inner = overrides.into_iter().flat_map(|all| all.iter());
    let inner = inner.filter_map(|one| child(one.get_ref().as_table()?, "rules").map(|(_, value)| value));
    rules.chain(inner).find_map(|value| Some(of(text, child(value.get_ref().as_table()?, rule)?.0)))
}

/// A setting of `[lint]`.
pub(super) fn of_setting(text: &str, key: &str) -> Option<Place> {
    let root = DeTable::parse(text).ok()?;
    Some(of(text, child(lint(root.get_ref())?, key)?.1.span().start))
}

/// The value `culprit` of the rule with that index, else the rule.
pub(super) fn of_rule(text: &str, index: usize, culprit: Option<&str>) -> Option<Place> {
    let root = DeTable::parse(text).ok()?;
    let (_, rules) = child(lint(root.get_ref())?, "rule")?;
    let rule = rules.get_ref().as_array()?.get(index)?;
    let is = |value: &Spanned<DeValue<'_>>| value.get_ref().as_str() == culprit && culprit.is_some();
    let found = rule.get_ref().as_table()?.iter().find_map(|(_, value)| match value.get_ref().as_array() {
        Some(all) => all.iter().find(|one| is(one)).map(Spanned::span),
        None => is(value).then(|| value.span()),
    });
    Some(of(text, found.unwrap_or_else(|| rule.span()).start))
}
