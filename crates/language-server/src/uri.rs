//! Between `file:` addresses and paths.

use std::path::{Path, PathBuf};

/// The path of a `file:` address; `None` for others, such as unsaved files.
pub fn path_of(uri: &str) -> Option<PathBuf> {
    let rest = uri.strip_prefix("file://")?;
    let path = &rest[rest.find('/')?..];
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let mut bytes = Vec::with_capacity(path.len());
    let mut left = path.as_bytes();
    while let Some((byte, rest)) = left.split_first() {
        left = rest;
        let hex = |byte: u8| char::from(byte).to_digit(16);
        match (byte, rest) {
            (b'%', [a, b, rest @ ..]) => {
                let (Some(a), Some(b)) = (hex(*a), hex(*b)) else { return None };
                bytes.push((a * 16 + b) as u8);
                left = rest;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok().map(PathBuf::from)
}

/// The address of an absolute path.
pub fn uri_of(path: &Path) -> String {
    let mut out = String::from("file://");
    for byte in path.to_string_lossy().bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte))
            }
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        for path in ["/a/b", "/ü b/%41#x?y", "/"] {
            assert_eq!(path_of(&uri_of(Path::new(path))).as_deref(), Some(Path::new(path)));
        }
        assert_eq!(path_of("file://localhost/a%20b").as_deref(), Some(Path::new("/a b")));
        for none in ["untitled:Untitled-1", "file://", "file:///%zz", "file:///%ff", "http://a/b"] {
            assert_eq!(path_of(none), None, "{none}");
        }
    }
}
