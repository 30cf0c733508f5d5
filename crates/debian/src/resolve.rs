//! Which packages make up an image: the roots and everything that they need.
//!
//! Greedy, as Debian's bootstrap tools are: what is already chosen satisfies a group first, then the
//! first alternative that exists, then the most needed provider. Groups with one possible answer go
//! first, so that choices are made with as much known as possible. When two choices exclude each other,
//! the one that was not forced is given up and the search starts again.

use crate::error::{Error, Result};
use crate::index::{Field, Index, Package, Priority};
use crate::relation::{Group, Relation, is_package_name};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Why a package was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Essential, required, or named by the caller.
    Root,
    /// Something needs it.
    Dependency,
}

/// A chosen set of packages.
#[derive(Debug)]
pub struct Selection<'a, 'i> {
    /// By name.
    pub packages: BTreeMap<&'a str, &'i Package<'a>>,
    /// Why each was chosen.
    pub reasons: BTreeMap<&'a str, Reason>,
}

/// Names that a minimal image starts from: essential and required packages and `apt`, and
/// `usr-is-merged` where there is one, since the image's `/bin` is a link from the start (without it the
/// first alternative would be `usrmerge`, which needs all of perl).
pub fn minbase<'a>(index: &Index<'a>) -> Vec<&'a str> {
    index
        .packages()
        .filter(|p| {
            p.essential || p.priority == Priority::Required || p.name == "apt" || p.name == "usr-is-merged"
        })
        .map(|p| p.name)
        .collect()
}

struct Search<'a, 'i, 'b> {
    index: &'i Index<'a>,
    banned: &'b BTreeSet<String>,
    chosen: BTreeMap<&'a str, &'i Package<'a>>,
    reasons: BTreeMap<&'a str, Reason>,
    /// Chosen where there was another way.
    free: BTreeSet<&'a str>,
    open: VecDeque<&'i Package<'a>>,
    later: VecDeque<(&'i Package<'a>, Group<'a>)>,
}

impl<'a, 'i> Search<'a, 'i, '_> {
    fn choose(&mut self, package: &'i Package<'a>, reason: Reason) {
        if self.chosen.insert(package.name, package).is_none() {
            self.reasons.insert(package.name, reason);
            self.open.push_back(package);
        }
    }

    fn is_satisfied(&self, group: &Group<'a>) -> bool {
        group.iter().any(|relation| {
            self.chosen.get(relation.name).is_some_and(|p| p.is(relation))
                || self
                    .index
                    .providers(relation.name)
                    .iter()
                    .any(|p| self.chosen.contains_key(p.name) && p.answers(relation))
        })
    }

    fn candidates(&self, group: &Group<'a>) -> Vec<&'i Package<'a>> {
        let mut all: Vec<&'i Package<'a>> = Vec::new();
        let mut add = |p: &'i Package<'a>| {
            if !self.banned.contains(p.name) && !all.iter().any(|q| q.name == p.name) {
                all.push(p);
            }
        };
        for relation in group {
            if let Some(p) = self.index.get(relation.name).filter(|p| p.is(relation)) {
                add(p);
            }
            for p in self.index.providers(relation.name) {
                if p.answers(relation) {
                    add(p);
                }
            }
        }
        all
    }

    fn close(&mut self) -> Result<()> {
        loop {
            while let Some(package) = self.open.pop_front() {
                for field in [Field::PreDepends, Field::Depends] {
                    for group in package.relations(field)? {
                        self.later.push_back((package, group));
                    }
                }
            }
            // Forced groups first; a choice only when nothing is forced any more.
            let mut choice = None;
            let mut forced = false;
            for (package, group) in std::mem::take(&mut self.later) {
                if self.is_satisfied(&group) {
                    continue;
                }
                match self.candidates(&group).as_slice() {
                    [] => {
                        let relation: Vec<String> = group.iter().map(ToString::to_string).collect();
                        return Err(Error::Unsatisfied {
                            package: package.name.into(),
                            relation: relation.join(" | "),
                        });
                    }
                    [only] => {
                        forced = true;
                        self.choose(only, Reason::Dependency);
                    }
                    [first, ..] => {
                        choice.get_or_insert(*first);
                        self.later.push_back((package, group));
                    }
                }
            }
            if forced {
                continue;
            }
            match choice {
                Some(package) => {
                    self.free.insert(package.name);
                    self.choose(package, Reason::Dependency);
                }
                None => return Ok(()),
            }
        }
    }

    /// The first pair that excludes each other, with the relation that says so.
    fn conflict(&self) -> Result<Option<(&'a str, &'a str, Relation<'a>)>> {
        let mut provided: BTreeMap<&str, Vec<&'i Package<'a>>> = BTreeMap::new();
        for package in self.chosen.values() {
            provided.entry(package.name).or_default().push(package);
            for relation in package.provides()? {
                provided.entry(relation.name).or_default().push(package);
            }
        }
        for package in self.chosen.values() {
            for field in [Field::Conflicts, Field::Breaks] {
                for relation in package.relations(field)?.into_iter().flatten() {
                    let others = provided.get(relation.name).into_iter().flatten();
                    for other in others.filter(|o| o.name != package.name) {
                        if other.answers(&relation) {
                            return Ok(Some((package.name, other.name, relation)));
                        }
                    }
                }
            }
        }
        Ok(None)
    }
}

/// Chooses `roots` and everything that they need. `suites` names the sources in errors.
pub fn resolve<'a, 'i>(index: &'i Index<'a>, roots: &[&str], suites: &str) -> Result<Selection<'a, 'i>> {
    let mut banned = BTreeSet::new();
    loop {
        let mut search = Search {
            index,
            banned: &banned,
            chosen: BTreeMap::new(),
            reasons: BTreeMap::new(),
            free: BTreeSet::new(),
            open: VecDeque::new(),
            later: VecDeque::new(),
        };
        for root in roots {
            if !is_package_name(root) {
                return Err(Error::Name { kind: "package name", name: (*root).into() });
            }
            let package = match index.get(root) {
                Some(p) => p,
                // A virtual name is as good as a real one where there is just one provider.
                None => match index.providers(root).as_slice() {
                    [only] => only,
                    _ => return Err(Error::NoPackage { name: (*root).into(), suites: suites.into() }),
                },
            };
            search.choose(package, Reason::Root);
        }
        search.close()?;
        let Some((package, other, relation)) = search.conflict()? else {
            return Ok(Selection { packages: search.chosen, reasons: search.reasons });
        };
        let give_up = [other, package].into_iter().find(|name| search.free.contains(name));
        match give_up {
            // Each round bans one more package, so this ends.
            Some(name) => {
                let name = name.to_string();
                banned.insert(name);
            }
            None => {
                return Err(Error::Conflict {
                    package: package.into(),
                    other: other.into(),
                    relation: relation.to_string(),
                });
            }
        }
    }
}

/// Orders packages so that what one needs comes before it where that is possible; loops are cut at an
/// arbitrary but fixed place. Only names of `packages` count.
pub fn order<'a>(packages: &BTreeMap<&'a str, &Package<'a>>) -> Result<Vec<&'a str>> {
    let mut done = Vec::with_capacity(packages.len());
    let mut seen = BTreeSet::new();
    for name in packages.keys() {
        if !seen.insert(*name) {
            continue;
        }
        // Depth first without recursion: a chain of dependencies must not use up the stack.
        let mut stack = vec![(*name, needs(name, packages)?)];
        while let Some((name, open)) = stack.last_mut() {
            match open.pop() {
                Some(next) => {
                    if seen.insert(next) {
                        let open = needs(next, packages)?;
                        stack.push((next, open));
                    }
                }
                None => {
                    done.push(*name);
                    stack.pop();
                }
            }
        }
    }
    Ok(done)
}

pub(crate) fn needs<'a>(name: &str, packages: &BTreeMap<&'a str, &Package<'a>>) -> Result<Vec<&'a str>> {
    let Some(package) = packages.get(name) else { return Ok(Vec::new()) };
    let mut all = Vec::new();
    // Popped from the end: pre-dependencies are looked at first.
    for field in [Field::Depends, Field::PreDepends] {
        for group in package.relations(field)?.into_iter().rev() {
            for relation in group {
                match packages.get_key_value(relation.name) {
                    Some((name, p)) if p.is(&relation) => all.push(*name),
                    _ => all.extend(packages.values().filter(|p| p.answers(&relation)).map(|p| p.name)),
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::Architecture;

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// `name version [field: value; ...]`, one a line.
    fn index_text(lines: &str) -> String {
        let mut text = String::new();
        for line in lines.lines().map(str::trim).filter(|l| !l.is_empty()) {
            let mut words = line.splitn(3, ' ');
            let (name, version) = (words.next().unwrap(), words.next().unwrap());
            text += &format!(
                "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\n\
                 SHA256: {HASH}\n"
            );
            for field in words.next().unwrap_or_default().split(';').filter(|f| !f.trim().is_empty()) {
                text += &format!("{}\n", field.trim());
            }
            text.push('\n');
        }
        text
    }

    fn solve(lines: &str, roots: &[&str]) -> Result<Vec<String>> {
        let text = index_text(lines);
        let index = Index::read(&[(&text, 0)], &Architecture::new("amd64").unwrap()).unwrap();
        let selection = resolve(&index, roots, "test")?;
        Ok(selection.packages.keys().map(ToString::to_string).collect())
    }

    #[test]
    fn closure_follows_both_kinds_of_dependencies() {
        let all = "a 1 Depends: b (>= 2); Pre-Depends: c\nb 2 Depends: d\nc 1\nd 1\ne 1";
        assert_eq!(solve(all, &["a"]).unwrap(), ["a", "b", "c", "d"]);
    }

    #[test]
    fn alternatives_prefer_what_is_there() {
        let all = "a 1 Depends: x | y\nx 1\ny 1\nb 1 Depends: y";
        assert_eq!(solve(all, &["a"]).unwrap(), ["a", "x"]);
        assert_eq!(solve(all, &["a", "b"]).unwrap(), ["a", "b", "y"]);
        // A version that the first alternative does not have.
        assert_eq!(solve("a 1 Depends: x (>= 2) | y\nx 1\ny 1", &["a"]).unwrap(), ["a", "y"]);
    }

    #[test]
    fn provides_count_with_their_versions() {
        let all =
            "a 1 Depends: mta\np 1 Provides: mta; Priority: optional\nm 1 Provides: mta; Priority: important";
        assert_eq!(solve(all, &["a"]).unwrap(), ["a", "m"]);
        let all =
            "a 1 Depends: api (>= 2)\np 1 Provides: api\nq 1 Provides: api (= 2.1)\nr 1 Provides: api (= 1)";
        assert_eq!(solve(all, &["a"]).unwrap(), ["a", "q"]);
        assert_eq!(solve("p 1 Provides: virtual", &["virtual"]).unwrap(), ["p"]);
    }

    #[test]
    fn what_nothing_satisfies_is_named() {
        match solve("a 1 Depends: b (>= 2) | c\nb 1", &["a"]) {
            Err(Error::Unsatisfied { package, relation }) => {
                assert_eq!((package.as_str(), relation.as_str()), ("a", "b (>= 2) | c"));
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(solve("a 1", &["zz"]), Err(Error::NoPackage { .. })));
        assert!(matches!(solve("a 1", &["../zz"]), Err(Error::Name { .. })));
    }

    #[test]
    fn conflicts_turn_to_another_choice_or_fail() {
        let all = "a 1 Depends: x | y\nx 1\ny 1\nb 1 Conflicts: x";
        assert_eq!(solve(all, &["a", "b"]).unwrap(), ["a", "b", "y"]);
        assert!(matches!(
            solve("a 1 Depends: x\nx 1\nb 1 Breaks: x (<< 2)", &["a", "b"]),
            Err(Error::Conflict { .. })
        ));
        assert_eq!(solve("a 1 Depends: x\nx 2\nb 1 Breaks: x (<< 2)", &["a", "b"]).unwrap(), ["a", "b", "x"]);
        // A package may conflict with a name that it provides itself.
        assert_eq!(solve("a 1 Provides: v; Conflicts: v", &["a"]).unwrap(), ["a"]);
    }

    #[test]
    fn loops_and_the_order() {
        let text = index_text("a 1 Depends: b\nb 1 Depends: c\nc 1 Depends: b\nd 1 Pre-Depends: a");
        let index = Index::read(&[(&text, 0)], &Architecture::new("amd64").unwrap()).unwrap();
        let selection = resolve(&index, &["d"], "test").unwrap();
        assert_eq!(order(&selection.packages).unwrap(), ["c", "b", "a", "d"]);
    }

    #[test]
    fn the_latest_version_of_several_sources_wins() {
        let (old, new) = (index_text("a 1-1\nb 2"), index_text("a 1-1+deb12u1\nb 1"));
        let index = Index::read(&[(&old, 0), (&new, 1)], &Architecture::new("amd64").unwrap()).unwrap();
        assert_eq!(index.get("a").unwrap().source, 1);
        assert_eq!(index.get("b").unwrap().source, 0);
    }

    #[test]
    fn hostile_file_names_are_refused() {
        for bad in ["../x.deb", "/x.deb", "a//b", "a/./b", "a b", "a?b", "a/../../b"] {
            let text = index_text("a 1").replace("pool/a.deb", bad);
            assert!(Index::read(&[(&text, 0)], &Architecture::new("amd64").unwrap()).is_err(), "{bad}");
        }
    }
}
