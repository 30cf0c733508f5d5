//! Users and groups of a root file system, for `USER`, `--chown` and WORKDIR.
//!
//! Invariants: the files are read inside the root, as regular files of at most 10 MiB; a numeric id must
//! fit in 32 bits and is never reinterpreted.

use sandbox::RootDir;
use solver::ErrorKind;

/// Largest passwd or group file that is read.
const MAX_BYTES: u64 = 10 << 20;

/// Who a step runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups; the primary one is among them, as runtimes have it.
    pub groups: Vec<u32>,
    /// From passwd; `/` if it has none.
    pub home: String,
}

struct PasswdLine {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

struct GroupLine {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The file's text; empty if there is none.
fn read(root: &RootDir, path: &str) -> Result<String, ErrorKind> {
    match root.read_limited(path, MAX_BYTES) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(e) if crate::is_missing(&e) => Ok(String::new()),
        Err(e) => Err(crate::copy::io(e)),
    }
}

fn passwd(root: &RootDir) -> Result<Vec<PasswdLine>, ErrorKind> {
    let parse = |line: &str| {
        let mut f = line.trim().split(':');
        let name = f.next()?.to_string();
        let (uid, gid) = (f.nth(1)?.parse().ok()?, f.next()?.parse().ok()?);
        Some(PasswdLine { name, uid, gid, home: f.nth(1).unwrap_or_default().to_string() })
    };
    Ok(read(root, "/etc/passwd")?.lines().filter_map(parse).collect())
}

fn groups(root: &RootDir) -> Result<Vec<GroupLine>, ErrorKind> {
    let parse = |line: &str| {
        let mut f = line.trim().split(':');
        let name = f.next()?.to_string();
        let gid = f.nth(1)?.parse().ok()?;
        let members =
            f.next().unwrap_or_default().split(',').filter(|m| !m.is_empty()).map(str::to_string).collect();
        Some(GroupLine { name, gid, members })
    };
    Ok(read(root, "/etc/group")?.lines().filter_map(parse).collect())
}

/// An id as `--chown` takes it: 31 bits, with a sign, or `root`; nothing at all is 0 too. Anything else is
/// a name to look up.
fn literal(text: &str) -> Option<u32> {
    match text {
        "" | "root" => Some(0),
        // (uid_t)-1 is no id ("leave as it is"), and nothing is there yet: root.
        _ => text.parse::<i32>().ok().map(|id| u32::try_from(id).unwrap_or(0)),
    }
}

/// A number that is an id. Text of digits that does not fit is an error, not a name.
fn number(text: &str) -> Result<Option<u32>, ErrorKind> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    // As the runtimes: ids are 31-bit, which also keeps (uid_t)-1 out ("leave as it is" to chown).
    match text.parse::<i32>() {
        Ok(id) if id >= 0 => Ok(Some(id as u32)),
        _ => Err(ErrorKind::with_hint(
            format!("uids and gids must be in range 0-2147483647, not {text:?}"),
            "use a smaller number, or a name",
        )),
    }
}

/// `USER user[:group]` as a process's identity (runc's rules). Empty means root through passwd.
pub fn process_user(root: &RootDir, spec: &str) -> Result<User, ErrorKind> {
    let (user, group) = spec.split_once(':').unwrap_or((spec, ""));
    let user = if user.is_empty() { "0" } else { user };
    let users = passwd(root)?;
    let wanted = number(user)?;
    let found = users.iter().find(|u| u.name == user || Some(u.uid) == wanted);
    let (uid, gid, home) = match (found, wanted) {
        (Some(u), _) => (u.uid, u.gid, u.home.clone()),
        (None, Some(uid)) => (uid, 0, String::new()),
        // With a group that needs no file either, root is 0 where no file says so.
        (None, None) if user == "root" && (group == "root" || number(group)?.is_some()) => {
            (0, 0, String::new())
        }
        (None, None) => {
            return Err(ErrorKind::with_hint(
                format!("unable to find user {user}: no matching entries in passwd file"),
                "create the user in a RUN step before, or give USER a number",
            ));
        }
    };
    let all = groups(root)?;
    let home = if home.is_empty() { "/".to_string() } else { home };
    if !group.is_empty() {
        let wanted = number(group)?;
        let gid = match (all.iter().find(|g| g.name == group || Some(g.gid) == wanted), wanted) {
            (Some(g), _) => g.gid,
            (None, Some(gid)) => gid,
            (None, None) if group == "root" && (user == "root" || number(user)?.is_some()) => 0,
            (None, None) => {
                return Err(ErrorKind::with_hint(
                    format!("unable to find group {group}: no matching entries in group file"),
                    "create the group in a RUN step before, or give a number",
                ));
            }
        };
        return Ok(User { uid, gid, groups: vec![gid], home });
    }
    let name = found.map(|u| u.name.as_str());
    let is_member = |g: &&GroupLine| name.is_some_and(|n| g.members.iter().any(|m| m == n));
    let mut groups: Vec<u32> = all.iter().filter(is_member).map(|g| g.gid).collect();
    if !groups.contains(&gid) {
        groups.insert(0, gid);
    }
    Ok(User { uid, gid, groups, home })
}

/// `--chown` and the owner of WORKDIR: a number stands for itself, and a lone one for its group too; a
/// name is looked up, and root where the files do not have it.
pub fn owner(root: Option<&RootDir>, spec: &str) -> Result<(u32, u32), ErrorKind> {
    let (user, group) = match spec.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (spec, None),
    };
    let no_root = |what: &str| {
        ErrorKind::with_hint(
            format!("invalid missing {what} mount: the name {spec:?} can't be looked up in an empty root"),
            "use numbers, or copy an /etc/passwd first",
        )
    };
    let (mut uid, mut gid) = (0, 0);
    match (literal(user), root) {
        (Some(id), _) => (uid, gid) = (id, id),
        (None, None) => return Err(no_root("user")),
        (None, Some(root)) => {
            if let Some(u) = passwd(root)?.iter().find(|u| u.name == user) {
                (uid, gid) = (u.uid, u.gid);
            }
        }
    }
    if let Some(group) = group {
        match (literal(group), root) {
            (Some(id), _) => gid = id,
            (None, None) => return Err(no_root("group")),
            (None, Some(root)) => {
                if let Some(g) = groups(root)?.iter().find(|g| g.name == group) {
                    gid = g.gid;
                }
            }
        }
    }
    Ok((uid, gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> (tempfile::TempDir, RootDir) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(
            dir.path().join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:\n",
        )
        .unwrap();
        std::fs::write(
            dir.path().join("etc/group"),
            "root:x:0:\nwheel:x:10:root\napp:x:1001:\nextra:x:2000:app\n",
        )
        .unwrap();
        let root = RootDir::open_path(dir.path()).unwrap();
        (dir, root)
    }

    #[test]
    fn identities() {
        let (_dir, root) = root();
        let user = |s: &str| process_user(&root, s).unwrap();
        assert_eq!(user(""), User { uid: 0, gid: 0, groups: vec![0, 10], home: "/root".into() });
        assert_eq!(
            user("app"),
            User { uid: 1000, gid: 1001, groups: vec![1001, 2000], home: "/home/app".into() }
        );
        assert_eq!(user("1000").groups, [1001, 2000]);
        assert_eq!(user("1234"), User { uid: 1234, gid: 0, groups: vec![0], home: "/".into() });
        assert_eq!((user("app:extra").gid, user("app:extra").groups), (2000, vec![2000]));
        assert_eq!(user("+5:+6"), User { uid: 5, gid: 6, groups: vec![6], home: "/".into() });
        for bad in ["nobody", "app:none", "4294967296", "-1", "4294967295", "2147483648"] {
            assert!(process_user(&root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn root_needs_no_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open_path(dir.path()).unwrap();
        for (spec, want) in [("", (0, 0)), ("root:root", (0, 0)), ("root:5", (0, 5)), ("0:root", (0, 0))] {
            let user = process_user(&root, spec).unwrap();
            assert_eq!((user.uid, user.gid, user.home.as_str()), (want.0, want.1, "/"), "{spec}");
        }
        for bad in ["root", "app", "app:root", "root:app", "0:app"] {
            assert!(process_user(&root, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn owners() {
        let (_dir, root) = root();
        for (spec, want) in [
            ("5", (5, 5)),
            ("5:6", (5, 6)),
            ("app", (1000, 1001)),
            ("app:extra", (1000, 2000)),
            (":7", (0, 7)),
            ("none", (0, 0)),
        ] {
            assert_eq!(owner(Some(&root), spec).unwrap(), want, "{spec}");
        }
        // A part that is empty is 0; what is no 31-bit number is a name, and an unknown one at that.
        for (spec, want) in [
            ("app:", (1000, 0)),
            ("5:", (5, 0)),
            ("app:none", (1000, 1001)),
            ("4294967296", (0, 0)),
            ("+5:+6", (5, 6)),
            ("-1", (0, 0)),
            ("7:-1", (7, 0)),
        ] {
            assert_eq!(owner(Some(&root), spec).unwrap(), want, "{spec}");
        }
        for (spec, want) in [("3:4", (3, 4)), ("root:root", (0, 0)), (":5", (0, 5))] {
            assert_eq!(owner(None, spec).unwrap(), want, "{spec}");
        }
        assert!(owner(None, "app").is_err());
    }
}
