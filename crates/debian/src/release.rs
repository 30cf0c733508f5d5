//! Release files: what a suite holds, with sizes and hashes.
//!
//! Source: Debian's repository format (wiki "DebianRepository/Format"). Only SHA-256 is read; a release
//! file without it is refused.

use crate::arch::Architecture;
use crate::date;
use crate::deb822::paragraphs;
use crate::error::{Error, Result};
use digest::Digest;
use std::collections::BTreeMap;

/// One file of a suite: path below `dists/SUITE/` comes from the key in [`Release::files`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexFile {
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
}

/// A parsed release file.
#[derive(Debug, Clone)]
pub struct Release {
    pub suite: String,
    pub codename: String,
    /// Such as `12.15`; suites in development have none.
    pub version: Option<String>,
    pub description: Option<String>,
    /// Seconds since 1970.
    pub date: u64,
    /// Seconds since 1970.
    pub valid_until: Option<u64>,
    pub architectures: Vec<String>,
    pub components: Vec<String>,
    /// Whether indices can be had by their hash, which is safe while the mirror is updated.
    pub by_hash: bool,
    /// Whether packages for all architectures are in every `binary-ARCH` index.
    pub all_in_every_index: bool,
    pub files: BTreeMap<String, IndexFile>,
}

impl Release {
    /// Parses the signed text of `InRelease`. `what` names it in errors.
    pub fn parse(text: &str, what: &str) -> Result<Release> {
        let paragraph = match paragraphs(text).next() {
            Some(Ok(p)) => p,
            Some(Err(e)) => return Err(Error::malformed(what, e.to_string())),
            None => return Err(Error::malformed(what, "it is empty")),
        };
        let words = |name: &str| -> Vec<String> {
            paragraph.get(name).unwrap_or_default().split_whitespace().map(str::to_string).collect()
        };
        let time = |name: &str| -> Result<Option<u64>> {
            match paragraph.get(name) {
                None => Ok(None),
                Some(text) => date::parse(text)
                    .map(Some)
                    .ok_or_else(|| Error::malformed(what, format!("its {name} is no date in UTC"))),
            }
        };
        let mut files = BTreeMap::new();
        for line in paragraph.get("SHA256").unwrap_or_default().lines().filter(|l| !l.trim().is_empty()) {
            let mut parts = line.split_whitespace();
            let (Some(hash), Some(size), Some(path), None) =
                (parts.next(), parts.next(), parts.next(), parts.next())
            else {
                return Err(Error::malformed(what, "a line of its SHA256 field has not three parts"));
            };
            let digest = format!("sha256:{}", hash.to_ascii_lowercase())
                .parse()
                .map_err(|_| Error::malformed(what, "a hash of its SHA256 field is malformed"))?;
            let size = size
                .parse()
                .map_err(|_| Error::malformed(what, "a size of its SHA256 field is malformed"))?;
            files.insert(path.to_string(), IndexFile { digest, size });
        }
        if files.is_empty() {
            return Err(Error::malformed(what, "it has no SHA256 field"));
        }
        let text_of =
            |name: &str| paragraph.get(name).map(|v| v.trim().to_string()).filter(|v| !v.is_empty());
        let codename = text_of("Codename").unwrap_or_default();
        Ok(Release {
            suite: text_of("Suite").unwrap_or_else(|| codename.clone()),
            codename,
            version: text_of("Version"),
            description: text_of("Description"),
            date: time("Date")?.ok_or_else(|| Error::malformed(what, "it has no Date"))?,
            valid_until: time("Valid-Until")?,
            architectures: words("Architectures"),
            // The security archive writes `updates/main` for what is at `main`.
            components: words("Components")
                .iter()
                .map(|c| c.rsplit('/').next().unwrap_or_default().to_string())
                .collect(),
            by_hash: paragraph.get("Acquire-By-Hash").is_some_and(|v| v.eq_ignore_ascii_case("yes")),
            all_in_every_index: paragraph
                .get("No-Support-for-Architecture-all")
                .is_some_and(|v| v.split_whitespace().any(|w| w == "Packages")),
            files,
        })
    }

    /// Whether this is the release file of the suite that `name` asks for.
    pub fn answers_to(&self, name: &str) -> bool {
        self.suite == name || self.codename == name
    }

    /// The package indices to read for an architecture and component, as paths below `dists/SUITE/` in
    /// order of preference; one of each inner list is enough.
    pub(crate) fn package_indices(&self, arch: &Architecture, component: &str) -> Vec<Vec<String>> {
        let mut kinds = vec![arch.as_str()];
        if !self.all_in_every_index && self.architectures.iter().any(|a| a == "all") {
            kinds.push("all");
        }
        kinds
            .iter()
            .map(|kind| {
                ["Packages.xz", "Packages.gz", "Packages"]
                    .iter()
                    .map(|name| format!("{component}/binary-{kind}/{name}"))
                    .filter(|path| self.files.contains_key(path))
                    .collect()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable\nVersion: 12.15\nCodename: bookworm\n\
        Date: Sat, 11 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\nArchitectures: all amd64\n\
        Components: updates/main contrib\nSHA256:\n \
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 12 main/binary-amd64/Packages.xz\n \
        E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855  0 main/binary-all/Packages\n";

    #[test]
    fn fields_and_files() {
        let r = Release::parse(TEXT, "InRelease").unwrap();
        assert!(r.answers_to("bookworm") && r.answers_to("oldstable") && !r.answers_to("trixie"));
        assert_eq!(r.date, 1_783_764_997);
        assert_eq!(r.components, ["main", "contrib"]);
        assert!(r.by_hash);
        let arch = Architecture::new("amd64").unwrap();
        assert_eq!(
            r.package_indices(&arch, "main"),
            [vec!["main/binary-amd64/Packages.xz".to_string()], vec!["main/binary-all/Packages".to_string()]]
        );
        assert_eq!(r.files["main/binary-amd64/Packages.xz"].size, 12);
    }

    #[test]
    fn malformed_files_are_refused() {
        for (from, to) in [
            ("SHA256:", "MD5Sum:"),
            ("Date: Sat, 11", "Date: Sat, 42"),
            (" 12 main", " x main"),
            ("e3b0", "zzzz"),
            (" 12 main", " 12 13 main"),
        ] {
            assert!(Release::parse(&TEXT.replace(from, to), "x").is_err(), "{from}");
        }
        assert!(Release::parse("", "x").is_err());
    }
}
