//! Git sources against `git daemon` on loopback.

mod common;

use common::{Reply, Server, remote, remote_with, store};
use graph::{GitSource, GitTimes, SourceOp};
use remote::Error;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use store::LocalStore;
use tempfile::TempDir;

/// A folder of repositories, served until it is dropped.
struct Daemon {
    dir: TempDir,
    port: u16,
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None`, said aloud, where git or its daemon is missing.
fn daemon() -> Option<Daemon> {
    let has = Command::new("git").args(["daemon", "--help"]).stdin(Stdio::null()).output();
    let exec = Command::new("git").arg("--exec-path").output();
    let there =
        exec.is_ok_and(|o| Path::new(String::from_utf8_lossy(&o.stdout).trim()).join("git-daemon").exists());
    if has.is_err() || !there {
        eprintln!("SKIPPED: git or git-daemon is missing");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let exec = Command::new("git").arg("--exec-path").output().unwrap();
    // The program itself, so that it is what is killed.
    let program = Path::new(String::from_utf8_lossy(&exec.stdout).trim()).join("git-daemon");
    let child = Command::new(program)
        .args(["--reuseaddr", "--export-all", "--listen=127.0.0.1"])
        .arg(format!("--port={port}"))
        .arg(format!("--base-path={}", dir.path().display()))
        .arg(dir.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Daemon { dir, port, child };
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(daemon);
        }
        std::thread::sleep(Duration::from_millis(25));
    }
    panic!("git daemon does not start");
}

impl Daemon {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    fn source(&self, name: &str) -> GitSource {
        GitSource {
            remote: self.url(name),
            reference: String::new(),
            subdir: String::new(),
            keep_git_dir: false,
            checksum: None,
            submodules: true,
            fetch_by_commit: false,
            times: GitTimes::Checkout,
        }
    }

    /// A repository with one commit of `files`.
    fn repository(&self, name: &str, files: &[(&str, &str)]) -> String {
        std::fs::create_dir(self.path(name)).unwrap();
        self.git(name, &["init", "-q", "-b", "main"]);
        self.commit(name, files)
    }

    fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.path(name).join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        self.git(name, &["add", "-A"]);
        self.git(name, &["commit", "-q", "--allow-empty", "-m", "x"]);
        self.git(name, &["rev-parse", "HEAD"])
    }

    fn git(&self, name: &str, args: &[&str]) -> String {
        let out = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
            .args(args)
            .current_dir(self.path(name))
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
            .env("GIT_AUTHOR_DATE", "2001-02-03T04:05:06Z")
            .output()
            .unwrap();
        assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    }
}

async fn fetch(store: &LocalStore, source: GitSource) -> Result<PathBuf, Error> {
    let fetched = remote().fetch(store, &SourceOp::Git(source)).await?;
    Ok(store.snapshot_path(&fetched.snapshot).unwrap())
}

/// `mode path` of everything, sorted; `.git` folders are not entered.
fn tree(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = std::fs::symlink_metadata(&path).unwrap();
            let shown = path.strip_prefix(root).unwrap().display();
            out.push(match meta.is_symlink() {
                true => format!("link {shown} -> {}", std::fs::read_link(&path).unwrap().display()),
                false => format!("{:o} {shown}", meta.mode() & 0o7777),
            });
            if meta.is_dir() && path.file_name().unwrap() != ".git" {
                walk(root, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out.sort();
    out
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_commit() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("r", &[("a", "one"), ("d/e", "two")]);
    std::fs::set_permissions(daemon.path("r/a"), std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", daemon.path("r/link")).unwrap();
    daemon.commit("r", &[]);
    let path = fetch(&store, daemon.source("r")).await.unwrap();
    assert_eq!(tree(&path), ["644 d/e", "755 a", "755 d", "link link -> /etc/passwd"]);
    assert_eq!(std::fs::read(path.join("d/e")).unwrap(), b"two");
    assert_eq!(std::fs::metadata(&path).unwrap().mode() & 0o7777, 0o755);
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_and_checksums() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    let first = daemon.repository("r", &[("a", "1")]);
    daemon.git("r", &["tag", "-a", "v1", "-m", "x"]);
    daemon.git("r", &["tag", "light"]);
    let second = daemon.commit("r", &[("a", "2")]);
    daemon.git("r", &["checkout", "-q", "-b", "other"]);
    daemon.commit("r", &[("a", "3")]);
    daemon.git("r", &["checkout", "-q", "main"]);
    let read = async |reference: &str| {
        let path =
            fetch(&store, GitSource { reference: reference.into(), ..daemon.source("r") }).await.unwrap();
        std::fs::read_to_string(path.join("a")).unwrap()
    };
    assert_eq!(read("").await, "2");
    assert_eq!(read("main").await, "2");
    assert_eq!(read("refs/heads/other").await, "3");
    assert_eq!(read("v1").await, "1");
    assert_eq!(read("refs/tags/light").await, "1");
    assert_eq!(read(&first).await, "1");
    assert_eq!(read(&second).await, "2");
    let with = |checksum: &str, reference: &str| GitSource {
        checksum: Some(checksum.into()),
        reference: reference.into(),
        ..daemon.source("r")
    };
    assert!(fetch(&store, with(&first, "v1")).await.is_ok());
    assert!(fetch(&store, with(&second[..8], "main")).await.is_ok());
    assert!(fetch(&store, with(&second.to_uppercase(), "")).await.is_ok());
    for (checksum, reference) in [(&first, "main"), (&second, "v1"), (&second, first.as_str())] {
        let e = fetch(&store, with(checksum, reference)).await.unwrap_err();
        assert!(matches!(e, Error::Commit { .. }) && e.hint().is_some(), "{e}");
    }
    let e = fetch(&store, GitSource { reference: "nothing".into(), ..daemon.source("r") }).await.unwrap_err();
    assert!(matches!(e, Error::NoRef { .. }) && e.hint().is_some());
    let gone = "0123456789".repeat(4);
    let e = fetch(&store, GitSource { reference: gone, ..daemon.source("r") }).await.unwrap_err();
    assert!(matches!(e, Error::NoRef { .. } | Error::Git { .. }), "{e}");
    let by_commit = GitSource { fetch_by_commit: true, ..with(&first, "main") };
    let path = fetch(&store, by_commit).await.unwrap();
    assert_eq!(std::fs::read(path.join("a")).unwrap(), b"1");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_ref_is_not_fetched_again() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    let commit = daemon.repository("r", &[("a", "1")]);
    let first = remote().fetch(&store, &SourceOp::Git(daemon.source("r"))).await.unwrap();
    let again = remote().fetch(&store, &SourceOp::Git(daemon.source("r"))).await.unwrap();
    assert_eq!(first, again);
    // By its commit it is the same tree, and the server is not even asked.
    let by_commit = SourceOp::Git(GitSource { reference: commit, ..daemon.source("r") });
    let mut daemon = daemon;
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert_eq!(remote().fetch(&store, &by_commit).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_of_a_repository() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("r", &[("a", "1"), ("d/e/f", "2"), ("d/g", "3")]);
    std::os::unix::fs::symlink("/etc", daemon.path("r/out")).unwrap();
    std::os::unix::fs::symlink("d", daemon.path("r/in")).unwrap();
    daemon.commit("r", &[]);
    let part = |subdir: &str| GitSource { subdir: subdir.into(), ..daemon.source("r") };
    let path = fetch(&store, part("/d/")).await.unwrap();
    assert_eq!(tree(&path), ["644 e/f", "644 g", "755 e"]);
    for bad in ["out", "in", "in/e", "out/ssl", "a", "nothing", "../r", "d/../../..", ".git"] {
        let e = fetch(&store, part(bad)).await.unwrap_err();
        assert!(matches!(e, Error::Subdir { .. }), "{bad}: {e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_repository() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    let commit = daemon.repository("r", &[("a", "1")]);
    let path = fetch(&store, GitSource { keep_git_dir: true, ..daemon.source("r") }).await.unwrap();
    let git = |args: &[&str]| {
        let out = Command::new("git")
            .args(["-c", "safe.directory=*"])
            .args(args)
            .current_dir(&path)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_string()
    };
    assert_eq!(git(&["rev-parse", "HEAD"]), commit);
    assert_eq!(git(&["rev-parse", "main"]), commit);
    assert_eq!(git(&["status", "--porcelain"]), "");
    assert_eq!(git(&["config", "remote.origin.url"]), daemon.url("r"));
    assert!(!path.join(".git/hooks").exists() && !path.join(".git/FETCH_HEAD").exists());
    let config = std::fs::read_to_string(path.join(".git/config")).unwrap();
    assert!(!config.contains("worktree"), "{config}");
}

#[tokio::test(flavor = "multi_thread")]
async fn times_of_the_commit() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("r", &[("d/a", "1")]);
    let path = fetch(&store, GitSource { times: GitTimes::Commit, ..daemon.source("r") }).await.unwrap();
    for name in ["", "d", "d/a"] {
        assert_eq!(std::fs::metadata(path.join(name)).unwrap().mtime(), 981_173_106, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn submodules() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("inner", &[("i", "inner")]);
    daemon.repository("middle", &[("m", "middle")]);
    let inner = daemon.git("inner", &["rev-parse", "HEAD"]);
    let link = |repo: &str, path: &str, commit: &str| {
        daemon.git(repo, &["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    };
    let modules =
        |repo: &str, text: &str| std::fs::write(daemon.path(repo).join(".gitmodules"), text).unwrap();
    let done = |repo: &str| {
        daemon.git(repo, &["add", ".gitmodules"]);
        daemon.git(repo, &["commit", "-q", "-m", "s"]);
        daemon.git(repo, &["rev-parse", "HEAD"])
    };
    modules("middle", "[submodule \"x\"]\n\tpath = deep/x\n\turl = ../inner\n");
    link("middle", "deep/x", &inner);
    let middle = done("middle");
    daemon.repository("outer", &[("o", "outer")]);
    modules(
        "outer",
        &format!("[submodule \"m\"]\n\tpath = mod\n\turl = {}\n\tupdate = checkout\n", daemon.url("middle")),
    );
    link("outer", "mod", &middle);
    done("outer");
    let path = fetch(&store, daemon.source("outer")).await.unwrap();
    assert_eq!(std::fs::read(path.join("mod/m")).unwrap(), b"middle");
    assert_eq!(std::fs::read(path.join("mod/deep/x/i")).unwrap(), b"inner");
    assert!(!path.join("mod/.git").exists());
    let path = fetch(&store, GitSource { submodules: false, ..daemon.source("outer") }).await.unwrap();
    assert!(!path.join("mod/m").exists());
    let path =
        fetch(&store, GitSource { subdir: "mod/deep".into(), ..daemon.source("outer") }).await.unwrap();
    assert_eq!(tree(&path), ["644 x/i", "755 x"]);
    let path = fetch(&store, GitSource { keep_git_dir: true, ..daemon.source("outer") }).await.unwrap();
    assert!(path.join("mod/deep/x/.git/config").exists());
    // What attackers write into .gitmodules.
    let canary = daemon.path("canary");
    for (n, url) in [
        "ext::sh -c touch% CANARY".replace("CANARY", &canary.display().to_string()),
        format!("file://{}", daemon.path("inner").display()),
        daemon.path("inner").display().to_string(),
        "-u./payload".into(),
        "--upload-pack=touch canary".into(),
        "../../../../../etc".into(),
        "ssh://-oProxyCommand=touch/x".into(),
    ]
    .iter()
    .enumerate()
    {
        let name = format!("evil{n}");
        daemon.repository(&name, &[("o", "x")]);
        modules(&name, &format!("[submodule \"m\"]\n\tpath = mod\n\turl = \"{url}\"\n"));
        link(&name, "mod", &inner);
        done(&name);
        let e = fetch(&store, daemon.source(&name)).await.unwrap_err();
        assert!(matches!(e, Error::Submodule { .. }), "{url}: {e}");
        assert!(!canary.exists());
    }
    // A submodule that no section names, and one that is not wanted.
    daemon.repository("nameless", &[("o", "x")]);
    modules("nameless", "[core]\n\tpager = touch canary\n");
    link("nameless", "mod", &inner);
    done("nameless");
    assert!(matches!(fetch(&store, daemon.source("nameless")).await, Err(Error::Submodule { .. })));
    daemon.repository("none", &[("o", "x")]);
    modules("none", "[submodule \"m\"]\n\tpath = mod\n\turl = ../inner\n\tupdate = none\n");
    link("none", "mod", &inner);
    done("none");
    let path = fetch(&store, daemon.source("none")).await.unwrap();
    assert!(!path.join("mod/i").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_repository_runs() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    let canary = daemon.path("canary");
    let script = format!("#!/bin/sh\ntouch {}\n", canary.display());
    daemon.repository(
        "r",
        &[(".gitattributes", "* filter=evil\n"), ("a", "1"), ("hooks/post-checkout", &script)],
    );
    let hook = daemon.path("r/hooks/post-checkout");
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    daemon.commit(
        "r",
        &[(".gitconfig", &format!("[filter \"evil\"]\n\tsmudge = touch {}\n", canary.display()))],
    );
    for keep_git_dir in [false, true] {
        fetch(&store, GitSource { keep_git_dir, ..daemon.source("r") }).await.unwrap();
        assert!(!canary.exists());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sources_that_are_options_or_local() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("r", &[("a", "1")]);
    let local = daemon.path("r").display().to_string();
    let file = format!("file://{local}");
    for remote in
        ["--upload-pack=touch /tmp/x", "ext::sh -c true", &local, &file, "-x", "ssh://-oProxyCommand=x/y"]
    {
        let e = fetch(&store, GitSource { remote: remote.into(), ..daemon.source("r") }).await.unwrap_err();
        assert!(matches!(e, Error::GitSource { .. }), "{remote}: {e}");
    }
    for reference in ["--upload-pack=x", "-x", "a..b", "a:b", "+main:main", "a b", "main^{}"] {
        let e =
            fetch(&store, GitSource { reference: reference.into(), ..daemon.source("r") }).await.unwrap_err();
        assert!(matches!(e, Error::GitSource { .. } | Error::NoRef { .. }), "{reference}: {e}");
    }
    for checksum in ["", "xyz", "--x", &"a".repeat(65)] {
        let source = GitSource { checksum: Some(checksum.into()), ..daemon.source("r") };
        assert!(matches!(fetch(&store, source).await, Err(Error::GitSource { .. })), "{checksum}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there() {
    let Some(daemon) = daemon() else { return };
    let (dir, store) = store();
    let e = fetch(&store, daemon.source("missing")).await.unwrap_err();
    assert!(matches!(e, Error::Git { .. }), "{e}");
    let dead = GitSource { remote: "git://127.0.0.1:1/r".into(), ..daemon.source("r") };
    assert!(matches!(fetch(&store, dead).await, Err(Error::Git { .. })));
    std::fs::create_dir(daemon.path("empty")).unwrap();
    daemon.git("empty", &["init", "-q"]);
    assert!(matches!(fetch(&store, daemon.source("empty")).await, Err(Error::NoRef { .. })));
    assert_eq!(std::fs::read_dir(dir.path().join("s/active")).map_or(0, Iterator::count), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_over_http() {
    let Some(daemon) = daemon() else { return };
    let (_dir, store) = store();
    daemon.repository("r", &[("a", "private")]);
    daemon.git("r", &["update-server-info"]);
    let files = daemon.path("r/.git");
    // Files of a repository as they are: the old protocol without depth.
    let server = Server::new(move |asked| {
        let path = asked.path.split('?').next().unwrap_or_default();
        let expected = ["Basic eC1hY2Nlc3MtdG9rZW46czNjcmV0", "Basic dTpz"];
        if !asked.header("authorization").is_some_and(|a| expected.contains(&a)) {
            return Reply::new(401).with("WWW-Authenticate", "Basic realm=x");
        }
        if let Some(moved) = path.strip_prefix("/moved.git") {
            return Reply::new(302).with("Location", &format!("/r.git{moved}"));
        }
        let Some(name) = path.strip_prefix("/r.git/") else { return Reply::new(404) };
        std::fs::read(files.join(name)).map_or_else(|_| Reply::new(404), Reply::ok)
    });
    let source = |path: &str| GitSource { remote: server.url(path), ..daemon.source("r") };
    let e = fetch(&store, source("/r.git")).await.unwrap_err();
    assert!(
        matches!(e, Error::Git { .. }) && e.hint().unwrap().contains("GIT_AUTH_TOKEN"),
        "{e} {:?}",
        e.hint()
    );
    let with = remote_with(&[("GIT_AUTH_TOKEN", "s3cret\n")]);
    let fetched = with.fetch(&store, &SourceOp::Git(source("/r.git"))).await.unwrap();
    assert_eq!(std::fs::read(store.snapshot_path(&fetched.snapshot).unwrap().join("a")).unwrap(), b"private");
    // A redirect would take the credentials along.
    let e = with.fetch(&store, &SourceOp::Git(source("/moved.git"))).await.unwrap_err();
    assert!(matches!(e, Error::Git { .. }), "{e}");
    let mut by_url = source("/r.git");
    by_url.remote = by_url.remote.replace("http://", "http://u:s@");
    let path = fetch(&store, GitSource { keep_git_dir: true, ..by_url }).await.unwrap();
    let config = std::fs::read_to_string(path.join(".git/config")).unwrap();
    assert!(!config.contains("u:s") && !config.contains("Authorization"), "{config}");
}
