//! Package indices: what each suite offers, and the best version of every name.

use crate::arch::Architecture;
use crate::deb822::{Paragraph, paragraphs};
use crate::error::{Error, Result};
use crate::relation::{Group, Relation, is_package_name, parse_relations};
use crate::version::Version;
use digest::Digest;
use std::collections::BTreeMap;

/// How much a package belongs to a system; the order is of decreasing need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    Required,
    Important,
    Standard,
    Optional,
}

/// One package of an index. It borrows from the index text.
#[derive(Debug, Clone)]
pub struct Package<'a> {
    pub name: &'a str,
    pub version: Version,
    /// As written: an architecture or `all`.
    pub architecture: &'a str,
    pub essential: bool,
    pub priority: Priority,
    /// Path of the archive below the mirror's root.
    pub filename: &'a str,
    /// Of the archive, in bytes.
    pub size: u64,
    /// Of the archive.
    pub digest: Digest,
    /// Which of the sources offers it, counted from 0.
    pub source: usize,
    relations: [&'a str; 4],
    provides: &'a str,
}

/// What a field of relations is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    PreDepends = 0,
    Depends = 1,
    Conflicts = 2,
    Breaks = 3,
}

impl<'a> Package<'a> {
    fn from_paragraph(p: &Paragraph<'a>, source: usize, what: &str) -> Result<Package<'a>> {
        let need = |name: &'static str| {
            p.get(name).ok_or_else(|| {
                let of = p.get("Package").unwrap_or("a package");
                Error::malformed(what, format!("{of} has no {name} field"))
            })
        };
        let name = need("Package")?;
        let bad = |why: String| Error::malformed(what, format!("package {name}: {why}"));
        if !is_package_name(name) {
            return Err(bad("its name is malformed".into()));
        }
        let filename = need("Filename")?;
        let safe = !filename.starts_with('/')
            && filename.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\".contains(&b))
            && filename.split('/').all(|part| !matches!(part, "" | "." | ".."));
        if !safe {
            return Err(bad("its Filename is malformed".into()));
        }
        let hash = need("SHA256")?;
        let text = |name: &str| p.get(name).unwrap_or_default();
        Ok(Package {
            name,
            version: Version::parse(need("Version")?).map_err(|e| bad(e.to_string()))?,
            architecture: need("Architecture")?,
            essential: text("Essential").eq_ignore_ascii_case("yes"),
            priority: match text("Priority") {
                "required" => Priority::Required,
                "important" => Priority::Important,
                "standard" => Priority::Standard,
                _ => Priority::Optional,
            },
            filename,
            size: need("Size")?.parse().map_err(|_| bad("its Size is malformed".into()))?,
            digest: format!("sha256:{hash}").parse().map_err(|_| bad("its SHA256 is malformed".into()))?,
            source,
            relations: [text("Pre-Depends"), text("Depends"), text("Conflicts"), text("Breaks")],
            provides: text("Provides"),
        })
    }

    /// The groups of a field.
    pub fn relations(&self, field: Field) -> Result<Vec<Group<'a>>> {
        parse_relations(self.relations[field as usize])
            .map_err(|why| Error::malformed(format!("package {}", self.name), why))
    }

    /// What it provides besides its own name: names, perhaps with `= version`.
    pub fn provides(&self) -> Result<Vec<Relation<'a>>> {
        let groups = parse_relations(self.provides)
            .map_err(|why| Error::malformed(format!("package {}", self.name), why))?;
        Ok(groups.into_iter().flatten().collect())
    }

    /// Whether this package itself (not what it provides) answers `relation`.
    pub fn is(&self, relation: &Relation<'_>) -> bool {
        self.name == relation.name
            && relation.bound.as_ref().is_none_or(|(op, version)| op.holds(&self.version, version))
    }

    /// Whether this package answers `relation` by name or by what it provides.
    pub fn answers(&self, relation: &Relation<'_>) -> bool {
        if self.is(relation) {
            return true;
        }
        if self.provides.is_empty() {
            return false;
        }
        let Ok(provides) = self.provides() else { return false };
        provides.iter().any(|p| {
            p.name == relation.name
                && match (&relation.bound, &p.bound) {
                    (None, _) => true,
                    (Some((op, want)), Some((_, have))) => op.holds(have, want),
                    (Some(_), None) => false,
                }
        })
    }
}

/// The best version of every package of some indices, and who provides what.
#[derive(Debug, Default)]
pub struct Index<'a> {
    packages: BTreeMap<&'a str, Package<'a>>,
    providers: BTreeMap<&'a str, Vec<&'a str>>,
}

impl<'a> Index<'a> {
    /// Reads indices, given as text and the number of the source. Of packages with the same name the one
    /// with the latest version wins, among equal versions the first.
    pub fn read(texts: &[(&'a str, usize)], arch: &Architecture) -> Result<Index<'a>> {
        let mut packages: BTreeMap<&'a str, Package<'a>> = BTreeMap::new();
        for (text, source) in texts {
            for paragraph in paragraphs(text) {
                let paragraph = paragraph.map_err(|e| Error::malformed("package index", e.to_string()))?;
                let package = Package::from_paragraph(&paragraph, *source, "package index")?;
                if package.architecture != arch.as_str() && package.architecture != "all" {
                    continue;
                }
                match packages.get(package.name) {
                    Some(known) if known.version >= package.version => {}
                    _ => {
                        packages.insert(package.name, package);
                    }
                }
            }
        }
        let mut providers: BTreeMap<&'a str, Vec<&'a str>> = BTreeMap::new();
        for package in packages.values().filter(|p| !p.provides.is_empty()) {
            for provided in package.provides()? {
                providers.entry(provided.name).or_default().push(package.name);
            }
        }
        Ok(Index { packages, providers })
    }

    pub fn get(&self, name: &str) -> Option<&Package<'a>> {
        self.packages.get(name)
    }

    /// All packages by name.
    pub fn packages(&self) -> impl Iterator<Item = &Package<'a>> {
        self.packages.values()
    }

    /// Packages that provide `name` (not the package of that name), the most needed first.
    pub fn providers(&self, name: &str) -> Vec<&Package<'a>> {
        let mut all: Vec<&Package<'a>> =
            self.providers.get(name).into_iter().flatten().filter_map(|n| self.packages.get(n)).collect();
        all.sort_by_key(|p| (p.priority, p.name));
        all.dedup_by_key(|p| p.name);
        all
    }

    pub fn len(&self) -> usize {
        self.packages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.packages.is_empty()
    }
}
