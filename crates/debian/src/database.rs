//! dpkg's database for packages that were unpacked without dpkg: what `dpkg --unpack` would have left.
//!
//! Sources: deb-control(5), deb-conffiles(5), deb-triggers(5) and the layout of `/var/lib/dpkg` (format 1):
//! `status`, `info/PKG.*` (`PKG:ARCH.*` for `Multi-Arch: same`), `triggers/File` for file triggers and
//! `triggers/NAME` for named ones, each with the interested packages, `/noawait` appended where set.

use crate::archive::ControlFiles;
use crate::deb822::paragraphs;
use crate::error::{Error, Result};
use crate::relation::is_package_name;
use crate::root::Root;
use crate::unpack::Unpacked;
use std::collections::{BTreeMap, BTreeSet};
use std::io;

/// A package that is in the root but not configured yet.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: String,
    pub version: String,
    pub architecture: String,
    /// Stem of its files in `info/`.
    pub stem: String,
    /// The control paragraph as it is in the package.
    paragraph: String,
    pub control: ControlFiles,
    replaces: Vec<String>,
}

impl Entry {
    /// `what` names the archive in errors.
    pub fn new(control: ControlFiles, what: &str) -> Result<Entry> {
        let bad = |why: &str| Error::Archive { path: what.into(), why: why.into() };
        let text = control.get("control").map(|(data, _)| data.clone()).unwrap_or_default();
        let text = String::from_utf8(text).map_err(|_| bad("its control file is no text"))?;
        let mut all = paragraphs(&text);
        let paragraph = match all.next() {
            Some(Ok(p)) => p,
            Some(Err(e)) => return Err(bad(&format!("its control file is malformed: {e}"))),
            None => return Err(bad("its control file is empty")),
        };
        if all.next().is_some() {
            return Err(bad("its control file has several paragraphs"));
        }
        let need =
            |name: &str| paragraph.get(name).ok_or_else(|| bad(&format!("its control file has no {name}")));
        let name = need("Package")?.to_string();
        let architecture = need("Architecture")?.to_string();
        if !is_package_name(&name) || !is_package_name(&architecture) {
            return Err(bad("its name or architecture is malformed"));
        }
        let stem = match paragraph.get("Multi-Arch") {
            Some("same") => format!("{name}:{architecture}"),
            _ => name.clone(),
        };
        let replaces = crate::relation::parse_relations(paragraph.get("Replaces").unwrap_or_default())
            .map_err(|why| bad(&why))?
            .into_iter()
            .flatten()
            .map(|r| r.name.to_string())
            .collect();
        let version = need("Version")?.to_string();
        let paragraph = text.trim_end().to_string();
        Ok(Entry { name, version, architecture, stem, paragraph, control, replaces })
    }

    pub fn has_replaces(&self, other: &str) -> bool {
        self.replaces.iter().any(|r| r == other)
    }

    /// Paths of its configuration files, relative to the root.
    pub fn conffiles(&self) -> BTreeSet<Vec<u8>> {
        let Some((data, _)) = self.control.get("conffiles") else { return BTreeSet::new() };
        String::from_utf8_lossy(data)
            .lines()
            // Lines with a flag in front (`remove-on-upgrade /etc/x`) name no file of this package.
            .filter_map(|l| l.trim_end().strip_prefix('/'))
            .map(|l| l.as_bytes().to_vec())
            .collect()
    }

    /// Its paragraph of `status`.
    fn status(&self, unpacked: &Unpacked) -> String {
        let mut text = String::with_capacity(self.paragraph.len() + 64);
        for (n, line) in self.paragraph.lines().enumerate() {
            if n == 0 {
                text += line;
                text += "\nStatus: install ok unpacked\n";
            } else {
                text += line;
                text.push('\n');
            }
        }
        if !unpacked.conffiles.is_empty() {
            text += "Conffiles:\n";
            for (path, md5) in &unpacked.conffiles {
                text += &format!(" /{} {md5}\n", String::from_utf8_lossy(path));
            }
        }
        text
    }
}

/// Triggers that packages are interested in: trigger name to lines of the interested.
fn interests(entries: &[(Entry, Unpacked)]) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (entry, _) in entries {
        let Some((data, _)) = entry.control.get("triggers") else { continue };
        for line in String::from_utf8_lossy(data).lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let (Some(directive), Some(name)) = (words.next(), words.next()) else { continue };
            let suffix = match directive {
                "interest" | "interest-await" => "",
                "interest-noawait" => "/noawait",
                _ => continue,
            };
            let safe = name.bytes().all(|b| b.is_ascii_graphic())
                && (name.starts_with('/')
                    || (!name.contains('/')
                        && !name.starts_with('.')
                        && !matches!(name, "File" | "Lock" | "Unincorp")));
            if !safe {
                return Err(Error::Archive {
                    path: entry.name.clone(),
                    why: format!("its trigger `{}` is malformed", name.escape_debug()),
                });
            }
            all.entry(name.to_string()).or_default().push(format!("{}{suffix}", entry.stem));
        }
    }
    Ok(all)
}

/// Writes the whole database of a root that has none yet.
pub(crate) fn write(root: &Root, architecture: &str, entries: &[(Entry, Unpacked)]) -> Result<()> {
    let put = |path: &str, data: &[u8], mode: u32| {
        let path = format!("var/lib/dpkg/{path}");
        root.write(path.as_bytes(), data, mode).map_err(Error::io("write", root.show(path.as_bytes())))
    };
    for folder in ["info", "updates", "triggers", "alternatives", "parts"] {
        let path = format!("var/lib/dpkg/{folder}");
        root.make_folder(path.as_bytes()).map_err(Error::io("create", root.show(path.as_bytes())))?;
    }
    put("info/format", b"1\n", 0o644)?;
    put("arch", format!("{architecture}\n").as_bytes(), 0o644)?;
    let mut status = String::new();
    for (entry, unpacked) in entries {
        let mut list = Vec::new();
        for path in &unpacked.paths {
            list.push(b'/');
            list.extend_from_slice(if path.is_empty() { b"." } else { path });
            list.push(b'\n');
        }
        put(&format!("info/{}.list", entry.stem), &list, 0o644)?;
        for (name, (data, mode)) in &entry.control {
            if name != "control" {
                put(&format!("info/{}.{name}", entry.stem), data, *mode)?;
            }
        }
        status += &entry.status(unpacked);
        status.push('\n');
    }
    put("status", status.as_bytes(), 0o644)?;
    let mut file_triggers = String::new();
    for (trigger, interested) in interests(entries)? {
        if trigger.starts_with('/') {
            for who in interested {
                file_triggers += &format!("{trigger} {who}\n");
            }
        } else {
            put(&format!("triggers/{trigger}"), format!("{}\n", interested.join("\n")).as_bytes(), 0o644)?;
        }
    }
    put("triggers/File", file_triggers.as_bytes(), 0o644)?;
    put("triggers/Unincorp", b"", 0o644)
}

/// apt's record of packages that nobody asked for by name, so that `apt autoremove` knows them.
pub(crate) fn write_extended_states(root: &Root, automatic: &[(String, String)]) -> io::Result<()> {
    let mut text = String::new();
    for (name, architecture) in automatic {
        text += &format!("Package: {name}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n");
    }
    root.write(b"var/lib/apt/extended_states", text.as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(control: &str, more: &[(&str, &str)]) -> Result<Entry> {
        let mut files = ControlFiles::new();
        files.insert("control".into(), (control.as_bytes().to_vec(), 0o644));
        for (name, text) in more {
            files.insert((*name).into(), (text.as_bytes().to_vec(), 0o755));
        }
        Entry::new(files, "x.deb")
    }

    const CONTROL: &str =
        "Package: libx\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\nReplaces: liby (<< 2)\n";

    #[test]
    fn the_database_is_what_dpkg_reads() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(dir.path()).unwrap();
        let e = entry(
            CONTROL,
            &[
                ("conffiles", "/etc/x\nremove-on-upgrade /etc/y\n"),
                ("triggers", "# c\ninterest-noawait /usr/lib\ninterest ldc\nactivate z\n"),
                ("postinst", "#!/bin/sh\n"),
            ],
        )
        .unwrap();
        assert!(e.has_replaces("liby") && !e.has_replaces("libx"));
        assert_eq!(e.conffiles().into_iter().collect::<Vec<_>>(), [b"etc/x".to_vec()]);
        let mut u =
            Unpacked { paths: vec![vec![], b"etc".to_vec(), b"etc/x".to_vec()], ..Default::default() };
        u.conffiles.insert(b"etc/x".to_vec(), "abc".into());
        write(&root, "amd64", &[(e, u)]).unwrap();
        let read = |p: &str| {
            String::from_utf8(root.read(format!("var/lib/dpkg/{p}").as_bytes()).unwrap().unwrap()).unwrap()
        };
        assert_eq!(
            read("status"),
            "Package: libx\nStatus: install ok unpacked\nVersion: 1\nArchitecture: amd64\nMulti-Arch: same\n\
             Replaces: liby (<< 2)\nConffiles:\n /etc/x abc\n\n"
        );
        assert_eq!(read("info/libx:amd64.list"), "/.\n/etc\n/etc/x\n");
        assert_eq!(read("triggers/File"), "/usr/lib libx:amd64/noawait\n");
        assert_eq!(read("triggers/ldc"), "libx:amd64\n");
        assert_eq!(read("info/libx:amd64.postinst"), "#!/bin/sh\n");
        assert!(root.read(b"var/lib/dpkg/info/libx:amd64.control").unwrap().is_none());
    }

    #[test]
    fn hostile_control_files_are_refused() {
        for bad in ["", "Package: ../x\nVersion: 1\nArchitecture: all\n", "Package: x\n", "x\n"] {
            assert!(entry(bad, &[]).is_err(), "{bad}");
        }
        let e = entry(CONTROL, &[("triggers", "interest ../../x\n")]).unwrap();
        assert!(interests(&[(e, Unpacked::default())]).is_err());
    }
}
