//! Names of files in Windows images, and where a layer has them.
//!
//! Deliberately not here: paths of recipes (crate `plan`) and records of layers (crate `layer`).

/// The folder of a layer, or of the files of an image, that is drive C.
pub const FILES: &str = "/Files";

/// Why Windows can't have a file of some name; reads on after "its name".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("is that of a device of Windows, {0}")]
    Device(&'static str),
    #[error("has the character {0:?}")]
    Character(char),
    #[error("ends with a {0}, which Windows leaves out")]
    End(&'static str),
}

const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];
const PORTS: [[&str; 10]; 2] = [
    ["COM0", "COM1", "COM2", "COM3", "COM4", "COM5", "COM6", "COM7", "COM8", "COM9"],
    ["LPT0", "LPT1", "LPT2", "LPT3", "LPT4", "LPT5", "LPT6", "LPT7", "LPT8", "LPT9"],
];

/// Whether a file or folder can have that name (Microsoft, "Naming Files, Paths, and Namespaces"). With an extension the
/// name of a device means the device still.
pub fn check_name(name: &str) -> Result<(), NameError> {
    if let Some(bad) = name.chars().find(|c| *c < ' ' || r#"<>:"|?*\"#.contains(*c)) {
        return Err(NameError::Character(bad));
    }
    match name.chars().last() {
        Some('.') => return Err(NameError::End("dot")),
        Some(' ') => return Err(NameError::End("blank")),
        _ => {}
    }
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ').to_ascii_uppercase();
    // The superscript digits of Latin-1 are digits here.
    let stem = stem.replace('\u{b9}', "1").replace('\u{b2}', "2").replace('\u{b3}', "3");
    match DEVICES.iter().chain(PORTS.iter().flatten()).find(|device| **device == stem) {
        Some(device) => Err(NameError::Device(device)),
        None => Ok(()),
    }
}

/// Names that are one name for Windows are equal afterwards.
pub fn folded(name: &str) -> String {
    // Character by character, as NTFS: "ß" has no capital letter there.
    let upper = |c: char| {
        let mut all = c.to_uppercase();
        match (all.next(), all.next()) {
            (Some(one), None) => one,
            _ => c,
        }
    };
    name.chars().map(upper).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in
            ["a", "a b", ".x", "console", "com", "COM10", "x.con", "nul_", "Program Files", "é", "com¹0"]
        {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["con", "Nul.txt", "aux.tar.gz", "LPT1", "com9.x", "com²", "nul .txt", "conin$"] {
            assert!(matches!(check_name(bad), Err(NameError::Device(_))), "{bad}");
        }
        for bad in ["a:b", "a?", "a\\b", "a\tb", "\"x\""] {
            assert!(matches!(check_name(bad), Err(NameError::Character(_))), "{bad}");
        }
        for bad in ["a.", "a ", "..."] {
            assert!(matches!(check_name(bad), Err(NameError::End(_))), "{bad}");
        }
        assert_eq!(folded("straße.TXT"), folded("STRAßE.txt"));
        assert_ne!(folded("strasse"), folded("straße"));
    }
}
