//! `--since REV`: findings on lines that changed since a revision of git.

use ctrbuild::{Error, ErrorKind};
use dockerfile::Parsed;
use lint::Finding;
use std::path::Path;
use std::process::Command;

/// Drops findings of instructions that did not change.
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
    let output = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["diff", "--unified=0", "--no-color", "--no-ext-diff", "--no-textconv", revision, "--"])
        .arg(name)
        .output()
        .map_err(|e| Error::world(format!("can't run git: {e}")))?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(Error::world(format!("git diff {revision} failed: {message}")));
    }
    let tracked = Command::new("git")
        .arg("-C")
        .arg(folder)
        .args(["ls-files", "--error-unmatch", "--"])
        .arg(name)
        .output();
    if !tracked.is_ok_and(|output| output.status.success()) {
        // A new file has changed as a whole.
        return Ok(());
    }
    let changed = hunks(&String::from_utf8_lossy(&output.stdout));
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
}
