//! `--since REV`: findings on lines that changed since a revision of git.

use ctrbuild::{Error, ErrorKind};
use dockerfile::Parsed;
use lint::Finding;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::Command;

/// Drops findings of instructions that did not change. A recipe that was renamed is compared with what it was.
pub fn keep_changed(
    revision: &str,
    path: Option<&Path>,
    parsed: &Parsed,
    findings: &mut Vec<Finding>,
) -> Result<(), Error> {
    let Some(path) = path else { return Ok(()) };
    if revision.starts_with('-') {
        return Err(Error::new(ErrorKind::World, format!("{revision:?} is no revision")));
    }
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(name) = path.file_name() else { return Ok(()) };
    let renames =
        git(folder, "diff", ["--name-status", "--find-renames", "--diff-filter=R", "-z", revision, "--"])?;
    let listed = ["--full-name", "--error-unmatch", "-z", "--"].map(OsStr::new);
    let literal = pathspec("literal", name.as_bytes());
    let Ok(listed) = git(folder, "ls-files", listed.into_iter().chain([literal.as_os_str()])) else {
        // A new file has changed as a whole.
        return Ok(());
    };
    let now = listed.split(|byte| *byte == 0).next().unwrap_or_default();
    let mut paths = vec![pathspec("top,literal", now)];
    paths.extend(old_name(&renames, now).map(|old| pathspec("top,literal", old)));
    let flags =
        ["--unified=0", "--find-renames", "--no-color", "--no-ext-diff", "--no-textconv", revision, "--"];
    let diff =
        git(folder, "diff", flags.map(OsStr::new).into_iter().chain(paths.iter().map(OsString::as_os_str)))?;
    let changed = hunks(&String::from_utf8_lossy(&diff));
    findings.retain(|finding| {
        let statement =
            parsed.statements.iter().find(|statement| statement.lines.first == finding.instruction_line);
        let (first, last) = statement.map_or((finding.instruction_line, finding.instruction_line), |node| {
            (node.lines.first, node.lines.last)
        });
        changed.iter().any(|(from, to)| *from <= last && first <= *to)
    });
    Ok(())
}

fn pathspec(magic: &str, path: &[u8]) -> OsString {
    OsString::from_vec([format!(":({magic})").as_bytes(), path].concat())
}

/// What `git diff --name-status -z` says a file was called: `R100`, the old name, the new one, each with a NUL.
fn old_name<'a>(renames: &'a [u8], now: &[u8]) -> Option<&'a [u8]> {
    let fields: Vec<&[u8]> = renames.split(|byte| *byte == 0).collect();
    fields.chunks_exact(3).find(|entry| entry[2] == now).map(|entry| entry[1])
}

fn git<S: AsRef<OsStr>>(
    folder: &Path,
    verb: &str,
    args: impl IntoIterator<Item = S>,
) -> Result<Vec<u8>, Error> {
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .arg(verb)
        .args(args)
        .output()
        .map_err(|e| Error::world(format!("can't run git: {e}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        let first = message.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
        return Err(Error::world(format!("git {verb} failed: {first}"))
            .hint("--since wants a recipe in a repository of git, and a revision that it has"));
    }
    Ok(output.stdout)
}

/// First and last lines of the new text in a diff without context. A place where lines only went away counts
/// as the line before it.
fn hunks(diff: &str) -> Vec<(u32, u32)> {
    let mut out = Vec::new();
    for line in diff.lines().filter(|line| line.starts_with("@@ ")) {
        let Some(new) = line.split(' ').find_map(|word| word.strip_prefix('+')) else { continue };
        let (start, count) = new.split_once(',').unwrap_or((new, "1"));
        let (Ok(start), Ok(count)) = (start.parse::<u32>(), count.parse::<u32>()) else { continue };
        out.push((start, start + count.saturating_sub(1)));
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn places() {
        let diff = "--- a/x\n+++ b/x\n@@ -1,2 +3,4 @@ x\n+a\n@@ -9 +12 @@\n@@ -20,2 +21,0 @@\n";
        assert_eq!(super::hunks(diff), [(3, 6), (12, 12), (21, 21)]);
    }

    #[test]
    fn renames() {
        let said = b"R100\0a/x\0b/y\0R090\0c\0d\0";
        assert_eq!(super::old_name(said, b"d"), Some(&b"c"[..]));
        assert_eq!(super::old_name(said, b"a/x"), None);
    }
}
