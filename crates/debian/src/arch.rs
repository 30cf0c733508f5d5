//! Debian's architecture names and the OCI platforms they stand for.
//!
//! Sources: Debian's list of official ports; Go's GOARCH/GOARM values, which the OCI image spec
//! (image-index.md, "platform") uses.

use crate::error::{Error, Result};
use std::fmt;

/// A Debian architecture name, such as `amd64`. Always lower-case letters, digits and hyphens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Architecture(String);

/// Debian name, OCI architecture, OCI variant, folders of `/` that are links into `/usr` besides
/// bin, sbin and lib.
const TABLE: &[(&str, &str, Option<&str>, &[&str])] = &[
    ("amd64", "amd64", None, &["lib64"]),
    ("arm64", "arm64", Some("v8"), &[]),
    ("armhf", "arm", Some("v7"), &[]),
    ("armel", "arm", Some("v5"), &[]),
    ("i386", "386", None, &[]),
    ("loong64", "loong64", None, &["lib64"]),
    ("mips64el", "mips64le", None, &["lib32", "lib64", "libo32"]),
    ("mipsel", "mipsle", None, &["lib32", "lib64"]),
    ("ppc64el", "ppc64le", None, &["lib64"]),
    ("riscv64", "riscv64", None, &[]),
    ("s390x", "s390x", None, &[]),
];

impl Architecture {
    /// Refuses what is no architecture name; unknown but well-formed names pass, so that new ports work.
    pub fn new(name: &str) -> Result<Self> {
        let ok = !name.is_empty()
            && name.len() <= 32
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !matches!(name, "all" | "any" | "source");
        if ok {
            Ok(Architecture(name.to_string()))
        } else {
            Err(Error::Name { kind: "architecture", name: name.into() })
        }
    }

    /// The Debian name for an OCI platform's `architecture` and `variant`. A missing variant of `arm`
    /// means v7, as in OCI practice.
    pub fn from_oci(architecture: &str, variant: Option<&str>) -> Result<Self> {
        let known = TABLE.iter().find(|(_, arch, v, _)| {
            *arch == architecture
                && match (architecture, variant) {
                    ("arm", None | Some("v7" | "v8")) => *v == Some("v7"),
                    ("arm", Some("v5" | "v6")) => *v == Some("v5"),
                    ("arm64", None | Some("v8")) => true,
                    (_, None | Some("v1")) => true,
                    (_, Some(_)) => false,
                }
        });
        match known {
            Some((name, ..)) => Ok(Architecture(name.to_string())),
            None => Err(Error::Name {
                kind: "platform of a Debian port",
                name: match variant {
                    Some(v) => format!("{architecture}/{v}"),
                    None => architecture.to_string(),
                },
            }),
        }
    }

    /// OCI `architecture` and `variant`. A port that OCI has no name for keeps its Debian one.
    pub fn to_oci(&self) -> (&str, Option<&'static str>) {
        match TABLE.iter().find(|(name, ..)| *name == self.0) {
            Some((_, arch, variant, _)) => (arch, *variant),
            None => (&self.0, None),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The top-level folders that are links into `/usr`.
    pub(crate) fn merged_folders(&self) -> Vec<&'static str> {
        let mut all = vec!["bin", "sbin", "lib"];
        if let Some((.., more)) = TABLE.iter().find(|(name, ..)| *name == self.0) {
            all.extend_from_slice(more);
        }
        all
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Architecture({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oci_and_debian_names_map_both_ways() {
        for (name, ..) in TABLE {
            let arch = Architecture::new(name).unwrap();
            let (oci, variant) = arch.to_oci();
            assert_eq!(Architecture::from_oci(oci, variant).unwrap(), arch, "{name}");
        }
        assert_eq!(Architecture::from_oci("arm64", None).unwrap().as_str(), "arm64");
        assert_eq!(Architecture::from_oci("arm", None).unwrap().as_str(), "armhf");
        assert_eq!(Architecture::from_oci("arm", Some("v6")).unwrap().as_str(), "armel");
        assert!(Architecture::from_oci("wasm", None).is_err());
        assert!(Architecture::from_oci("amd64", Some("v3")).is_err());
    }

    #[test]
    fn names_are_checked() {
        for bad in ["", "all", "any", "../x", "AMD64", "a b", "a/b"] {
            assert!(Architecture::new(bad).is_err(), "{bad}");
        }
    }
}
