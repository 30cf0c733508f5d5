//! Pulling: what arrives, what is refused, what is resumed.

mod harness;

use digest::{Digest, Sha256};
use harness::{Counter, amd64, chain, client, config, image};
use oci::{BlobSink, BlobWriter, Descriptor, MemoryBlobs, Platform, media};
use registry::{Client, Error, Fetched, Silent};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use testkit::{Action, Rule, TestRegistry};

#[tokio::test(flavor = "multi_thread")]
async fn an_image_arrives_whole_and_byte_identical() {
    let r = TestRegistry::start().await;
    let image = image(300_000);
    r.add("team/app", "1", &image);
    let sink = MemoryBlobs::new();
    let progress = Arc::new(Counter::default());
    let got = client()
        .pull(&r.reference("team/app:1"), &amd64(), Arc::new(sink.clone()), progress.clone())
        .await
        .unwrap();
    assert_eq!(got.image, image.image);
    assert_eq!(got.reference.digest(), Some(&image.content.digest()));
    for d in image.blobs.digests() {
        assert_eq!(sink.get(&d), image.blobs.get(&d), "{d}");
    }
    assert_eq!(sink.get(&image.content.digest()).as_deref(), Some(&image.image.manifest.bytes[..]));
    let layers: u64 = image.image.manifest.value.layers.iter().map(|l| l.size).sum();
    assert_eq!(progress.bytes.load(Ordering::Relaxed), layers);
    // Once more: nothing but the manifest and the config is asked for.
    let before = r.count("GET", "/blobs/");
    client().pull(&r.reference("team/app:1"), &amd64(), Arc::new(sink), progress.clone()).await.unwrap();
    assert_eq!(r.count("GET", "/blobs/") - before, 1);
    assert_eq!(progress.seen("present"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_followed_to_the_platform() {
    let r = TestRegistry::start().await;
    let arm = Platform::new("linux", "arm64");
    let one = testkit::image(&amd64(), &[&[("a", b"amd")]]);
    let two = testkit::image(&arm, &[&[("a", b"arm")]]);
    let both = testkit::index(&[one, two.clone()]);
    r.add("x", "latest", &both);
    let got = client().image(&r.reference("x"), &arm).await.unwrap();
    assert_eq!(got.image, two.image);
    assert_eq!((got.indexes.len(), got.top().digest), (1, both.content.digest()));
    let e = client().image(&r.reference("x"), &Platform::new("linux", "s390x")).await.unwrap_err();
    assert!(matches!(e, Error::Platform { .. }), "{e}");
    assert!(e.to_string().contains("linux/amd64, linux/arm64"), "{e}");
    let d = client().resolve(&r.reference("x")).await.unwrap();
    assert_eq!((d.digest, d.media_type.as_str()), (both.content.digest(), media::OCI_INDEX));
    let e = client().resolve(&r.reference("x:other")).await.unwrap_err();
    assert_eq!(e.to_string(), format!("{}/x:other was not found: manifest unknown", r.domain()));
    assert!(e.hint().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_platforms_arrive_and_can_be_pushed_again() {
    let r = TestRegistry::start().await;
    let one = testkit::image(&amd64(), &[&[("a", b"amd")]]);
    let two = testkit::image(&Platform::new("linux", "arm64"), &[&[("a", b"arm")]]);
    let both = testkit::index(&[one, two]);
    r.add("x", "1", &both);
    let content = client().content(&r.reference("x:1")).await.unwrap();
    assert_eq!((content.digest(), content.manifests().len()), (both.content.digest(), 2));
    let sink = MemoryBlobs::new();
    client()
        .fetch_content(&r.reference("x:1"), &content, Arc::new(sink.clone()), Arc::new(Silent))
        .await
        .unwrap();
    let again = r.reference("y:1");
    client().push(&again, &content, Arc::new(sink), &Default::default(), Arc::new(Silent)).await.unwrap();
    assert_eq!(r.manifest("y", "1").unwrap(), &both.content.top.bytes()[..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_transfers_go_on_where_they_broke() {
    let r = TestRegistry::start().await;
    let image = image(200_000);
    r.add("x", "1", &image);
    let big = image.image.manifest.value.layers[1].clone();
    for (name, rules) in [
        ("cut", vec![Rule::new("GET", &big.digest.hex(), Action::CutAfter(70_000)).times(2)]),
        (
            "range ignored",
            vec![
                Rule::new("GET", &big.digest.hex(), Action::CutAfter(70_000)).times(1),
                Rule::new("GET", &big.digest.hex(), Action::IgnoreRange).times(1),
            ],
        ),
        ("5xx", vec![Rule::status("GET", &big.digest.hex(), 503).times(2)]),
        ("closed", vec![Rule::new("GET", &big.digest.hex(), Action::Hang).times(1)]),
        ("silent", vec![Rule::new("GET", &big.digest.hex(), Action::Silence).times(1)]),
        (
            "429",
            vec![
                Rule::new(
                    "GET",
                    &big.digest.hex(),
                    Action::Answer {
                        status: 429,
                        headers: vec![("retry-after".into(), "1".into())],
                        body: vec![],
                    },
                )
                .times(1),
            ],
        ),
    ] {
        r.clear_rules();
        rules.into_iter().for_each(|rule| r.rule(rule));
        let sink = MemoryBlobs::new();
        let start = std::time::Instant::now();
        let done = client().fetch_blob(&r.reference("x:1"), &big, Arc::new(sink.clone()), &Silent).await;
        assert_eq!(done.map_err(|e| chain(&e)), Ok(Fetched::Downloaded), "{name}");
        assert!(sink.has(&big).unwrap());
        assert!(name != "429" || start.elapsed() >= Duration::from_secs(1));
    }
    assert!(r.requests().iter().any(|q| q.range.as_deref() == Some("bytes=70000-")));
    r.clear_rules();
    r.rule(Rule::new(
        "GET",
        "/blobs/",
        Action::Answer { status: 429, headers: vec![("retry-after".into(), "3600".into())], body: vec![] },
    ));
    let e = client()
        .fetch_blob(&r.reference("x:1"), &big, Arc::new(MemoryBlobs::new()), &Silent)
        .await
        .unwrap_err();
    assert!(e.hint().unwrap().contains("3600 s"), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_that_break_off_are_asked_for_again() {
    let r = TestRegistry::start().await;
    let image = image(1000);
    r.add("x", "1", &image);
    r.add("x", "2", &image);
    r.rule(Rule::new("GET", "/manifests/", Action::CutAfter(100)).times(2));
    let got = client().image(&r.reference("x:1"), &amd64()).await.map_err(|e| chain(&e)).unwrap();
    assert_eq!(got.image, image.image);
    r.rule(Rule::new("GET", "/tags/", Action::CutAfter(5)).times(2));
    assert_eq!(client().tags(&r.reference("x:1")).await.map_err(|e| chain(&e)).unwrap(), ["1", "2"]);
    // Not for ever.
    r.rule(Rule::new("GET", "/manifests/", Action::CutAfter(100)));
    let e = client().image(&r.reference("x:1"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Interrupted { .. }), "{}", chain(&e));
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_never_reach_the_store() {
    let r = TestRegistry::start().await;
    let image = image(100_000);
    r.add("x", "1", &image);
    let big = image.image.manifest.value.layers[1].clone();
    let fetch = async |blob: Descriptor| {
        let sink = MemoryBlobs::new();
        let result = client().fetch_blob(&r.reference("x:1"), &blob, Arc::new(sink.clone()), &Silent).await;
        assert!(sink.digests().is_empty());
        chain(&result.unwrap_err())
    };
    r.rule(Rule::new("GET", "/blobs/", Action::Corrupt(50_000)));
    assert!(fetch(big.clone()).await.contains("content has digest sha256:"));
    r.clear_rules();
    r.rule(Rule::new("GET", "/blobs/", Action::Extra(b"more".to_vec())));
    assert!(fetch(big.clone()).await.contains("were announced"));
    r.clear_rules();
    let lying = Descriptor { size: big.size - 1, ..big.clone() };
    assert!(fetch(lying).await.contains("were announced"));
    let lying = Descriptor { size: big.size + 1, ..big.clone() };
    assert!(fetch(lying).await.contains("broke off"));
    r.rule(Rule::new("GET", "/blobs/", Action::CutAfter(10)));
    assert!(fetch(big.clone()).await.contains("broke off"));
    r.clear_rules();
    r.rule(Rule::new("GET", "/blobs/", Action::Slow { piece: 1, pause: Duration::from_millis(20) }));
    assert!(fetch(big).await.contains("nothing useful"));
}

/// A sink with a (good or damaged) prefix of an earlier attempt.
struct Resuming {
    inner: MemoryBlobs,
    prefix: Mutex<Vec<u8>>,
}

impl BlobSink for Resuming {
    fn has(&self, blob: &Descriptor) -> io::Result<bool> {
        self.inner.has(blob)
    }
    fn begin(&self, blob: &Descriptor) -> io::Result<Box<dyn BlobWriter>> {
        let prefix = std::mem::take(&mut *self.prefix.lock().unwrap());
        Ok(Box::new(ResumingWriter { inner: self.inner.begin(blob)?, prefix }))
    }
}

struct ResumingWriter {
    inner: Box<dyn BlobWriter>,
    prefix: Vec<u8>,
}

impl BlobWriter for ResumingWriter {
    fn resume(&mut self) -> io::Result<(u64, Sha256)> {
        let mut h = Sha256::new();
        h.update(&self.prefix);
        self.inner.write(&self.prefix)?;
        Ok((self.prefix.len() as u64, h))
    }
    fn restart(&mut self) -> io::Result<()> {
        self.inner.restart()
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(bytes)
    }
    fn commit(self: Box<Self>) -> io::Result<()> {
        self.inner.commit()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_attempt_is_continued_or_thrown_away() {
    let r = TestRegistry::start().await;
    let image = image(100_000);
    r.add("x", "1", &image);
    let big = image.image.manifest.value.layers[1].clone();
    let bytes = image.blobs.get(&big.digest).unwrap();
    let whole = bytes.to_vec();
    let mut damaged = bytes[..5000].to_vec();
    damaged[7] ^= 1;
    for (prefix, events) in [
        (bytes[..5000].to_vec(), &["started 5000", "done"][..]),
        (damaged, &["started 5000", "retrying", "started 0", "done"]),
        (whole, &["started 100"]),
    ] {
        let sink = Resuming { inner: MemoryBlobs::new(), prefix: Mutex::new(prefix) };
        let progress = Counter::default();
        let inner = sink.inner.clone();
        client().fetch_blob(&r.reference("x:1"), &big, Arc::new(sink), &progress).await.unwrap();
        assert!(inner.has(&big).unwrap());
        let seen = progress.events.lock().unwrap().clone();
        assert!(events.len() == 1 || seen == events, "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_manifests_are_refused() {
    let r = TestRegistry::start().await;
    let image = image(10);
    r.add("x", "good", &image);
    let text = String::from_utf8(image.image.manifest.bytes.to_vec()).unwrap();
    let put = |tag: &str, media_type: &str, body: &str| r.add_manifest("x", tag, media_type, body.as_bytes());
    put("both", media::OCI_MANIFEST, &text.replacen('{', r#"{"manifests":[],"#, 1));
    put("type", media::DOCKER_MANIFEST, &text);
    put("kind", media::OCI_INDEX, &text.replace("image.manifest.v1", "image.index.v1"));
    put("twice", media::OCI_MANIFEST, &text.replacen('{', r#"{"config":null,"#, 1));
    put("case", media::OCI_MANIFEST, &text.replacen('{', r#"{"Layers":[],"#, 1));
    put("path", media::OCI_MANIFEST, &text.replace("sha256:", "sha256:../../../../"));
    put("old", "application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1}"#);
    put("html", "text/html", "<html>");
    put("big", media::OCI_MANIFEST, &" ".repeat(5 << 20));
    put("deep", media::OCI_MANIFEST, &"[".repeat(100_000));
    for tag in ["both", "type", "kind", "twice", "case", "path", "old", "html", "deep"] {
        let e = client().image(&r.reference(&format!("x:{tag}")), &amd64()).await.unwrap_err();
        assert!(matches!(e, Error::Document { .. }), "{tag}: {}", chain(&e));
    }
    let e = client().image(&r.reference("x:big"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Protocol { .. }), "{e}");
    // Bytes that are not those of the digest, by reference and by the registry's own header.
    let pinned = r.reference(&format!("x@{}", image.content.digest()));
    r.add_manifest(
        "x",
        &image.content.digest().to_string(),
        media::OCI_MANIFEST,
        format!("{text} ").as_bytes(),
    );
    let e = client().image(&pinned, &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Verify { .. }), "{e}");
    let lie = vec![("docker-content-digest".to_string(), Digest::of(b"other").to_string())];
    r.rule(Rule::new("", "/manifests/good", Action::Headers(lie)));
    let e = client().image(&r.reference("x:good"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Verify { .. }), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn indexes_that_never_end_are_refused() {
    let r = TestRegistry::start().await;
    let mut inner = Descriptor::of(media::OCI_MANIFEST, b"nothing");
    for level in 0..6 {
        inner.platform = Some(amd64());
        let index = oci::mutate::index(vec![inner], media::Format::Oci, Default::default());
        r.add_manifest("x", &index.digest.to_string(), media::OCI_INDEX, &index.bytes);
        r.add_manifest("x", &format!("level{level}"), media::OCI_INDEX, &index.bytes);
        inner = index.descriptor();
    }
    let e = client().image(&r.reference("x:level5"), &amd64()).await.unwrap_err();
    assert!(chain(&e).contains("refers to itself"), "{}", chain(&e));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_paged_and_bounded() {
    let r = TestRegistry::start().await;
    let image = image(10);
    for tag in ["a", "b", "c", "d", "e"] {
        r.add("team/x", tag, &image);
    }
    assert_eq!(client().tags(&r.reference("team/x")).await.unwrap(), ["a", "b", "c", "d", "e"]);
    assert_eq!(client().catalog(&r.domain()).await.unwrap(), ["team/x"]);
    r.set_page(1);
    for n in 0..1002 {
        r.add_manifest("many", &format!("t{n:04}"), media::OCI_MANIFEST, b"{}");
    }
    let e = client().tags(&r.reference("many")).await.unwrap_err();
    assert!(e.to_string().contains("more than 1000 pages"), "{e}");
    let e = client().tags(&r.reference("team/none")).await.unwrap_err();
    assert!(matches!(e, Error::NotFound { .. }), "{e}");
    for (link, what) in [
        ("</v2/team/x/tags/list?n=1000>; rel=next".to_string(), "in a circle"),
        ("<http://127.0.0.1:1/v2/x>; rel=next".to_string(), "at another host"),
    ] {
        r.clear_rules();
        r.rule(Rule::new("GET", "/tags/list", Action::Headers(vec![("link".into(), link)])));
        let e = client().tags(&r.reference("team/x")).await.unwrap_err();
        assert!(e.to_string().contains(what), "{e}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn giant_headers_redirect_loops_and_slow_documents_end() {
    let r = TestRegistry::start().await;
    r.add("x", "1", &image(10));
    let ask = async || client().image(&r.reference("x:1"), &amd64()).await.unwrap_err();
    r.rule(Rule::new("", "", Action::Headers(vec![("x-big".into(), "a".repeat(2 << 20))])));
    let e = ask().await;
    assert!(matches!(e, Error::Interrupted { .. }), "{}", chain(&e));
    r.clear_rules();
    r.rule(Rule::redirect("GET", "/manifests/", "/v2/x/manifests/1?again"));
    assert!(ask().await.to_string().contains("redirects too many times"));
    r.clear_rules();
    r.rule(Rule::redirect("GET", "/manifests/", "file:///etc/passwd"));
    assert!(ask().await.to_string().contains("not secure"));
    r.clear_rules();
    r.rule(Rule::new("GET", "/manifests/", Action::Slow { piece: 1, pause: Duration::from_millis(50) }));
    assert!(matches!(ask().await, Error::Stalled { .. }));
    r.clear_rules();
    r.rule(Rule::new(
        "GET",
        "/manifests/",
        Action::Answer {
            status: 404,
            headers: vec![("content-type".into(), "application/json".into())],
            body: b"{\"errors\":[{\"code\":\"X\",\"message\":\"\\u001b[2Jgone\\nreally\"}]}".to_vec(),
        },
    ));
    assert!(ask().await.to_string().ends_with("was not found: [2Jgone really"));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_come_from_their_urls_without_credentials() {
    let r = TestRegistry::start().await;
    let elsewhere = TestRegistry::start().await;
    let bytes = vec![7; 4000];
    elsewhere.add_blob("files", &bytes);
    let mut blob = Descriptor::of(media::DOCKER_FOREIGN_GZIP, &bytes);
    blob.urls = vec!["ftp://nowhere/x".into(), format!("{}/v2/files/blobs/{}", elsewhere.url(), blob.digest)];
    let sink = MemoryBlobs::new();
    let client = harness::client_as(&elsewhere.domain(), harness::password("u", "p"));
    client.fetch_blob(&r.reference("win"), &blob, Arc::new(sink.clone()), &Silent).await.unwrap();
    assert!(sink.has(&blob).unwrap());
    assert_eq!(r.count("GET", "/v2/win/blobs/"), 1);
    assert!(elsewhere.requests().iter().all(|q| q.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn mirrors_are_asked_first_and_may_fail() {
    let (origin, mirror) = (TestRegistry::start().await, TestRegistry::start().await);
    let image = image(1000);
    origin.add("x", "1", &image);
    mirror.add("x", "1", &image);
    let mirrors = [(origin.domain(), vec![mirror.url(), "http://127.0.0.1:1".into()])].into();
    let client = Client::new(registry::Config { mirrors, ..config() });
    let pull = async || {
        let sink = Arc::new(MemoryBlobs::new());
        client.pull(&origin.reference("x:1"), &amd64(), sink, Arc::new(Silent)).await.map(|r| r.image)
    };
    assert_eq!(pull().await.unwrap(), image.image);
    assert_eq!((origin.requests().len(), mirror.count("GET", "")), (0, 4));
    mirror.rule(Rule::status("", "", 500));
    assert_eq!(pull().await.unwrap(), image.image);
    assert!(origin.count("GET", "/blobs/") == 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn unreachable_and_insecure_registries_are_told_apart() {
    let e = client().ping("127.0.0.1:1").await.unwrap_err();
    assert!(matches!(e, Error::Unreachable { .. }), "{e}");
    // TLS is asked for by configuration: the plain registry must not get a plain request instead.
    let r = TestRegistry::start().await;
    let insecure = [(r.domain(), registry::Insecure::UnverifiedTls)].into();
    let e = Client::new(registry::Config { insecure, ..config() }).ping(&r.domain()).await.unwrap_err();
    assert!(matches!(e, Error::Tls { .. } | Error::Unreachable { .. }), "{}", chain(&e));
    assert!(r.requests().is_empty());
}
