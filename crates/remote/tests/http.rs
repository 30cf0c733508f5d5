//! HTTP sources against a scripted server on loopback.

mod common;

use common::{Asked, Reply, Server, remote, remote_with, store};
use graph::{HttpSource, SourceOp};
use remote::{Error, HttpFailure};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;
use store::LocalStore;

fn source(url: String) -> HttpSource {
    HttpSource { url, filename: "file".into(), checksum: None, mode: None, uid: 0, gid: 0 }
}

async fn fetch(store: &LocalStore, source: HttpSource) -> Result<(PathBuf, digest::TreeHash), Error> {
    fetch_with(&remote(), store, source).await
}

async fn fetch_with(
    remote: &remote::Remote,
    store: &LocalStore,
    source: HttpSource,
) -> Result<(PathBuf, digest::TreeHash), Error> {
    let name = source.filename.clone();
    let fetched = remote.fetch(store, &SourceOp::Http(source)).await?;
    Ok((store.snapshot_path(&fetched.snapshot).unwrap().join(name), fetched.hash))
}

fn failure(e: Error) -> HttpFailure {
    match e {
        Error::Http { failure, .. } => failure,
        e => panic!("another error: {e:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_its_mode_and_time() {
    let (_dir, store) = store();
    let server = Server::new(|_| Reply::ok("hello").with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"));
    let (path, first) = fetch(&store, source(server.url("/a"))).await.unwrap();
    let meta = std::fs::metadata(&path).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert_eq!((meta.mode() & 0o7777, meta.mtime(), meta.mtime_nsec()), (0o600, 784_111_777, 0));
    let other = HttpSource { mode: Some(0o4755), filename: "other".into(), ..source(server.url("/a")) };
    let (path, second) = fetch(&store, other).await.unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().mode() & 0o7777, 0o4755);
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_date_it_is_1970() {
    let (_dir, store) = store();
    let server = Server::new(|_| Reply::ok(""));
    let (path, _) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().mtime(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_counts_for_the_hash() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.path.as_str() {
        "/a" | "/b" => Reply::ok("same"),
        "/dated" => Reply::ok("same").with("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        _ => Reply::ok("other"),
    });
    let hash = async |path: &str| fetch(&store, source(server.url(path))).await.unwrap().1;
    let a = hash("/a").await;
    assert_eq!(a, hash("/b").await);
    assert_ne!(a, hash("/dated").await);
    assert_ne!(a, hash("/other").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_file_is_not_sent_again() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.header("if-none-match") {
        Some("\"v1\"") => Reply::new(304).with("ETag", "\"v1\""),
        _ => Reply::ok("hello").with("ETag", "\"v1\""),
    });
    let first = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(fetch(&store, source(server.url("/a"))).await.unwrap(), first);
    let asked = server.asked();
    assert_eq!(asked.len(), 2);
    assert_eq!(asked[0].header("if-none-match"), None);
    assert_eq!(asked[1].header("if-none-match"), Some("\"v1\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn dates_serve_where_there_are_no_tags() {
    let (_dir, store) = store();
    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    let server = Server::new(|asked| match asked.header("if-modified-since") {
        Some(DATE) => Reply::new(304),
        _ => Reply::ok("hello").with("Last-Modified", DATE),
    });
    let first = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(fetch(&store, source(server.url("/a"))).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_fetched_anew() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.number {
        0 => Reply::ok("one").with("ETag", "\"v1\""),
        _ => Reply::ok("two").with("ETag", "\"v2\""),
    });
    let (_, first) = fetch(&store, source(server.url("/a"))).await.unwrap();
    let (path, second) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"two");
    assert_ne!(first, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_file_that_is_there_needs_no_server() {
    let (_dir, store) = store();
    let server = Server::new(|_| Reply::ok("hello"));
    let pinned = HttpSource { checksum: Some(digest::Digest::of(b"hello")), ..source(server.url("/a")) };
    let first = fetch(&store, pinned.clone()).await.unwrap();
    drop(server);
    assert_eq!(fetch(&store, pinned).await.unwrap(), first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_checksum_is_refused_and_nothing_kept() {
    let (dir, store) = store();
    let server = Server::new(|_| Reply::ok("evil").with("ETag", "\"v\""));
    let pinned = HttpSource { checksum: Some(digest::Digest::of(b"hello")), ..source(server.url("/a")) };
    for _ in 0..2 {
        let e = fetch(&store, pinned.clone()).await.unwrap_err();
        assert!(matches!(e, Error::Checksum { .. }) && e.hint().is_some(), "{e}");
        assert!(e.to_string().contains("(expected: sha256:2cf24d"), "{e}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join("s/snapshots")).unwrap().count(), 0);
    // Also where the file is known from before.
    fetch(&store, source(server.url("/a"))).await.unwrap();
    assert!(matches!(fetch(&store, pinned).await, Err(Error::Checksum { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn status_codes() {
    let (_dir, store) = store();
    let server = Server::new(|asked| Reply::new(asked.path[1..].parse().unwrap()));
    for code in [400, 401, 403, 404, 418, 501] {
        let e = fetch(&store, source(server.url(&format!("/{code}")))).await.unwrap_err();
        assert!(matches!(failure(e), HttpFailure::Status { status, .. } if status == code), "{code}");
    }
    assert_eq!(server.asked().len(), 6, "final answers are not asked for again");
    let e = fetch(&store, source(server.url("/503"))).await.unwrap_err();
    assert!(matches!(failure(e), HttpFailure::Status { status: 503, .. }));
    assert_eq!(server.asked().len(), 6 + 3);
    let e = fetch(&store, source(server.url("/304"))).await.unwrap_err();
    assert!(matches!(failure(e), HttpFailure::Status { status: 304, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn transient_failures_pass() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.number {
        0 => Reply::new(503),
        1 => Reply::new(429).with("Retry-After", "0"),
        _ => Reply::ok("hello"),
    });
    let (path, _) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_body_is_resumed() {
    let (_dir, store) = store();
    let body: Vec<u8> = (0..300_000u32).map(|i| i as u8).collect();
    let whole = body.clone();
    let server = Server::new(move |asked| match asked.header("range") {
        None => Reply::ok(body.clone()).with("ETag", "\"v\"").cut_after(100_000),
        Some(range) => {
            assert_eq!(asked.header("if-range"), Some("\"v\""));
            let start: usize = range.strip_prefix("bytes=").unwrap().trim_end_matches('-').parse().unwrap();
            assert!(start > 0 && start <= 100_000);
            let mut reply = Reply::new(206).with("ETag", "\"v\"");
            reply.body = body[start..].to_vec();
            reply.with("Content-Range", &format!("bytes {start}-{}/{}", body.len() - 1, body.len()))
        }
    });
    let (path, _) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert!(std::fs::read(path).unwrap() == whole);
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_tag_it_begins_anew() {
    let (_dir, store) = store();
    let server = Server::new(|asked| {
        assert_eq!(asked.header("range"), None);
        match asked.number {
            0 => Reply::ok("x".repeat(10_000)).cut_after(5_000),
            _ => Reply::ok("y".repeat(10_000)),
        }
    });
    let (path, _) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert!(std::fs::read(path).unwrap() == vec![b'y'; 10_000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_always_cut_fails_whole() {
    let (dir, store) = store();
    let server = Server::new(|_| Reply::ok("x".repeat(10_000)).cut_after(5_000));
    let e = fetch(&store, source(server.url("/a"))).await.unwrap_err();
    assert!(matches!(failure(e), HttpFailure::Interrupted { .. }));
    assert_eq!(std::fs::read_dir(dir.path().join("s/snapshots")).unwrap().count(), 0);
    assert_eq!(std::fs::read_dir(dir.path().join("s/active")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_and_trickles_are_given_up() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.path.as_str() {
        "/silent" => Reply::ok("x").after(Duration::from_secs(60)),
        _ => Reply::ok("x".repeat(10_000)).trickle(Duration::from_millis(50)),
    });
    for path in ["/silent", "/trickle"] {
        let begin = std::time::Instant::now();
        let e = fetch(&store, source(server.url(path))).await.unwrap_err();
        assert!(matches!(failure(e), HttpFailure::Stalled { .. }), "{path}");
        assert!(begin.elapsed() < Duration::from_secs(20), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_are_followed_a_few_times() {
    let (_dir, store) = store();
    let server = Server::new(|asked| match asked.path.as_str() {
        "/loop" => Reply::new(302).with("Location", "/loop"),
        "/a" => Reply::new(301).with("Location", "b?x=1"),
        "/b?x=1" => Reply::ok("there"),
        "/file" => Reply::new(302).with("Location", "file:///etc/passwd"),
        "/link" => Reply::new(302).with("Location", "http://169.254.169.254/latest/meta-data/"),
        "/v6" => Reply::new(302).with("Location", "http://[fe80::1]/"),
        _ => Reply::new(302),
    });
    let (path, _) = fetch(&store, source(server.url("/a"))).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"there");
    let e = fetch(&store, source(server.url("/loop"))).await.unwrap_err();
    assert!(matches!(failure(e), HttpFailure::Redirects { .. }));
    for path in ["/file", "/link", "/v6", "/nowhere"] {
        let e = fetch(&store, source(server.url(path))).await.unwrap_err();
        assert!(e.hint().is_some());
        assert!(matches!(failure(e), HttpFailure::Redirect { .. }), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_stay_with_their_origin() {
    let (_dir, store) = store();
    let other = Server::new(|asked| match asked.header("authorization") {
        None => Reply::ok("public"),
        Some(_) => Reply::new(500),
    });
    let away = other.url("/x");
    let server = Server::new(move |asked| match (asked.path.as_str(), asked.header("authorization")) {
        ("/token", Some("Bearer s3cret")) => Reply::ok("private"),
        ("/away", Some("Bearer s3cret")) => Reply::new(302).with("Location", &away),
        ("/url", Some("Basic dTpw")) => Reply::ok("by url"),
        _ => Reply::new(401),
    });
    let with = remote_with(&[("HTTP_AUTH_TOKEN_127.0.0.1", "s3cret\n")]);
    let read = |p: PathBuf| std::fs::read_to_string(p).unwrap();
    let (path, _) = fetch_with(&with, &store, source(server.url("/token"))).await.unwrap();
    assert_eq!(read(path), "private");
    let (path, _) = fetch_with(&with, &store, source(server.url("/away"))).await.unwrap();
    assert_eq!(read(path), "public");
    assert_eq!(other.asked()[0].header("authorization"), None);
    let url = server.url("/url").replace("http://", "http://u:p@");
    let (path, _) = fetch(&store, source(url)).await.unwrap();
    assert_eq!(read(path), "by url");
    let url = server.url("/no?sig=abc").replace("http://", "http://u:hidden@");
    let e = fetch(&store, source(url)).await.unwrap_err();
    let text = format!("{e} {e:?}");
    assert!(!text.contains("hidden") && !text.contains("sig"), "{text}");
    let header = remote_with(&[("HTTP_AUTH_HEADER_127.0.0.1", "Bearer s3cret")]);
    assert!(fetch_with(&header, &store, source(server.url("/token"))).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_urls_that_are_refused() {
    let (_dir, store) = store();
    for name in ["..", "../x", "a/b", "", "/etc/passwd", "a\0b"] {
        let bad = HttpSource { filename: name.into(), ..source("http://127.0.0.1:1/".into()) };
        assert!(matches!(fetch(&store, bad).await, Err(Error::FileName { .. })), "{name:?}");
    }
    for url in ["file:///etc/passwd", "ftp://h/x", "gopher://h", "http://"] {
        assert!(matches!(fetch(&store, source(url.into())).await, Err(Error::Url { .. })), "{url}");
    }
    let e = fetch(&store, source("http://127.0.0.1:1/x".into())).await.unwrap_err();
    assert!(matches!(failure(e), HttpFailure::Unreachable { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_streams() {
    let (_dir, store) = store();
    let server = Server::new(|_: &Asked| Reply::ok(vec![7u8; 32 << 20]));
    let (path, _) = fetch(&store, source(server.url("/big"))).await.unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().len(), 32 << 20);
}
