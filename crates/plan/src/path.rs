//! Paths of a recipe: lexical cleaning, working directories and destinations.
//!
//! Everything here is text; nothing looks at a file system. Paths come back with forward slashes.

/// The operating system whose path rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathStyle {
    Unix,
    Windows,
}

impl PathStyle {
    pub fn of(os: &str) -> Self {
        if os == "windows" { PathStyle::Windows } else { PathStyle::Unix }
    }
}

/// A path that the rules of Windows images do not allow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    #[error("no relative path specified in {0:?}")]
    BareDrive(String),
    #[error("UNC paths are not supported")]
    Unc,
    #[error("the specified path is not on the system drive (C:)")]
    OtherDrive,
    #[error("the name {0:?} {1}")]
    Name(String, oci::windows::NameError),
}

/// Go's `path.Clean`: shortest equivalent text; empty becomes `.`.
pub use dockerfile::ignore::clean;

/// Go's `path.Join` of two elements: empty ones are skipped, the result is clean.
pub fn join(a: &str, b: &str) -> String {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => String::new(),
        (true, false) => clean(b),
        (false, true) => clean(a),
        (false, false) => clean(&format!("{a}/{b}")),
    }
}

/// Last element, as Go's `path.Base`.
pub fn base(path: &str) -> &str {
    let trimmed = path.trim_end_matches('/');
    if trimmed.is_empty() {
        return if path.is_empty() { "." } else { "/" };
    }
    trimmed.rsplit('/').next().unwrap_or(trimmed)
}

fn to_slash(path: &str, style: PathStyle) -> String {
    match style {
        PathStyle::Unix => path.to_string(),
        PathStyle::Windows => path.replace('\\', "/"),
    }
}

fn clean_keeping_slash(path: &str, keep: bool) -> String {
    let cleaned = clean(path);
    if keep && cleaned != "/" && path.ends_with('/') { format!("{cleaned}/") } else { cleaned }
}

/// Drop the drive letter of a Windows path, which must be C; a no-op elsewhere.
fn strip_drive(path: &str, style: PathStyle, keep_slash: bool) -> Result<String, PathError> {
    if style == PathStyle::Unix {
        return Ok(path.to_string());
    }
    if path.len() == 2 && path.ends_with(':') {
        return Err(PathError::BareDrive(path.to_string()));
    }
    let slashed = to_slash(path, style);
    if slashed.starts_with("//") {
        return Err(PathError::Unc);
    }
    match slashed.split_once(':') {
        None => Ok(clean_keeping_slash(&slashed, keep_slash)),
        Some((drive, rest)) if drive.eq_ignore_ascii_case("c") => Ok(clean_keeping_slash(rest, keep_slash)),
        Some(_) => Err(PathError::OtherDrive),
    }
}

pub fn is_absolute(path: &str, style: PathStyle) -> bool {
    strip_drive(path, style, false).is_ok_and(|p| p.starts_with('/'))
}

/// `path` made absolute below `parent`. A trailing `/` or `/.` is kept if `keep_slash`, since it marks a
/// folder. An absolute Unix path is *not* cleaned: the image records what the recipe says.
pub fn normalize(parent: &str, path: &str, style: PathStyle, keep_slash: bool) -> Result<String, PathError> {
    let original = to_slash(path, style);
    let parent =
        strip_drive(&to_slash(if parent.is_empty() { "/" } else { parent }, style), style, keep_slash)?;
    let parent = if parent.starts_with('/') { parent } else { join("/", &parent) };
    let mut out = if original.is_empty() { parent.clone() } else { original.clone() };
    out = strip_drive(&out, style, keep_slash)?;
    if !out.starts_with('/') {
        out = join(&parent, &out);
    }
    if keep_slash {
        if original.ends_with('/') && !out.ends_with('/') {
            out.push('/');
        } else if original.ends_with("/.") {
            if out != "/" {
                out.push('/');
            }
            out.push('.');
        }
    }
    Ok(out)
}

/// Whether all names in a path, which is clean, are ones that the system allows.
pub fn check_names(path: &str, style: PathStyle) -> Result<(), PathError> {
    if style == PathStyle::Unix {
        return Ok(());
    }
    let names = path.split(['/', '\\']).filter(|name| !matches!(*name, "" | "."));
    for name in names {
        oci::windows::check_name(name).map_err(|e| PathError::Name(name.to_string(), e))?;
    }
    Ok(())
}

/// An absolute path in the folder that is the drive, which nothing leads out of; as it is where there are no drives.
pub fn on_drive(drive: &str, path: String) -> String {
    if drive.is_empty() { path } else { join(drive, &clean(&path)) }
}

/// The new working directory after `WORKDIR path` below `current`, as the image records it.
pub fn workdir(current: &str, path: &str, style: PathStyle) -> Result<String, PathError> {
    let out = normalize(current, path, style, false)?;
    Ok(match style {
        PathStyle::Unix => out,
        PathStyle::Windows => out.replace('/', "\\"),
    })
}

/// A COPY or ADD destination below the working directory.
pub fn destination(workdir: &str, dest: &str, style: PathStyle) -> Result<String, PathError> {
    let dest = strip_drive(dest, style, true)?;
    if is_absolute(&dest, style) {
        return normalize("/", &dest, style, true);
    }
    let dest = if dest == "." || dest.is_empty() { "./" } else { &dest };
    normalize(workdir, dest, style, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use PathStyle::*;

    #[test]
    fn cleaning_like_go() {
        for (from, to) in [
            ("", "."),
            ("/", "/"),
            ("a/../..", ".."),
            ("/../a", "/a"),
            ("a//b/./c/", "a/b/c"),
            ("..//x", "../x"),
        ] {
            assert_eq!(clean(from), to, "{from}");
        }
    }

    #[test]
    fn destinations_keep_what_marks_a_folder() {
        for (dir, dest, want) in [
            ("/w", "x", "/w/x"),
            ("/w", "x/", "/w/x/"),
            ("/w", ".", "/w/"),
            ("/w", "", "/w/"),
            ("/w", "x/.", "/w/x/."),
            ("/w", "/x/", "/x/"),
            ("/", "./", "/"),
        ] {
            assert_eq!(destination(dir, dest, Unix).as_deref(), Ok(want), "{dir} {dest}");
        }
    }

    #[test]
    fn windows_destinations() {
        for (dir, dest, want) in [
            ("\\w", "x", "/w/x"),
            ("\\w", "C:x\\", "/w/x/"),
            ("\\w", "C:\\a\\..\\b\\", "/b/"),
            ("\\w", "/Program Files/", "/Program Files/"),
            ("", ".", "/"),
            ("", "..\\..\\x", "/x"),
        ] {
            assert_eq!(destination(dir, dest, Windows).as_deref(), Ok(want), "{dir} {dest}");
        }
        assert_eq!(on_drive("/Files", "/../x/".into()), "/Files/x");
        assert_eq!(on_drive("", "/../x/".into()), "/../x/");
        assert_eq!(check_names("/a b/c.d/", Windows), Ok(()));
        assert_eq!(check_names("/nul", Unix), Ok(()));
        for bad in ["/a/nul", "/Con.txt/x", "/a/b:stream", "/x./y"] {
            assert!(matches!(check_names(bad, Windows), Err(PathError::Name(..))), "{bad}");
        }
    }

    #[test]
    fn windows_drives() {
        assert_eq!(workdir("", "C:\\app\\x", Windows).as_deref(), Ok("\\app\\x"));
        assert_eq!(workdir("\\app", "y", Windows).as_deref(), Ok("\\app\\y"));
        assert_eq!(workdir("", "d:\\", Windows), Err(PathError::OtherDrive));
        assert_eq!(workdir("", "\\\\host\\share", Windows), Err(PathError::Unc));
        assert_eq!(workdir("", "C:", Windows), Err(PathError::BareDrive("C:".into())));
    }
}
