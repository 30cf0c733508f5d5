//! Pushing: only what is missing, mounts, retries, order, and what must not happen.

mod harness;

use harness::{Counter, client, client_as, image, password};
use oci::{BlobSource, Content, Descriptor, MemoryBlobs, Platform, media};
use registry::{Error, MountHints, Silent, Uploaded};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use testkit::{Action, Auth, Rule, TestRegistry};

#[tokio::test(flavor = "multi_thread")]
async fn only_missing_blobs_travel_and_the_tag_comes_last() {
    let r = TestRegistry::start().await;
    let image = image(700_000);
    let source = Arc::new(image.blobs.clone());
    let progress = Arc::new(Counter::default());
    let push = async || {
        let to = r.reference("team/app:1");
        client()
            .push(&to, &image.content, source.clone(), &MountHints::new(), progress.clone())
            .await
            .unwrap()
    };
    let done = push().await;
    assert_eq!(done.iter().filter(|(_, u)| *u == Uploaded::Sent).count(), 3);
    let all: u64 = image.content.blobs().iter().map(|b| b.size).sum();
    assert_eq!(progress.bytes.load(Ordering::Relaxed), all);
    assert_eq!(r.manifest("team/app", "1").unwrap(), &image.image.manifest.bytes[..]);
    let order: Vec<String> =
        r.requests().iter().filter(|q| q.method == "PUT").map(|q| q.target.clone()).collect();
    assert!(
        order[order.len() - 2].contains("/manifests/sha256:")
            && order[order.len() - 1].ends_with("/manifests/1")
    );
    assert!(order[..3].iter().all(|t| t.contains("/blobs/uploads/")));
    let done = push().await;
    assert!(done.iter().all(|(_, u)| *u == Uploaded::Present));
    assert_eq!(r.count("POST", ""), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_pushed_inside_out() {
    let r = TestRegistry::start().await;
    let one = testkit::image(&Platform::new("linux", "amd64"), &[&[("a", b"amd")]]);
    let two = testkit::image(&Platform::new("linux", "arm64"), &[&[("a", b"arm")]]);
    let both = testkit::index(&[one.clone(), two]);
    let to = r.reference("x");
    client()
        .push(&to, &both.content, Arc::new(both.blobs.clone()), &MountHints::new(), Arc::new(Silent))
        .await
        .unwrap();
    let got = client().image(&to, &Platform::new("linux", "amd64")).await.unwrap();
    assert_eq!((got.image, got.indexes[0].digest), (one.image, both.content.digest()));
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_are_mounted_from_other_repositories() {
    let r = TestRegistry::start().await;
    let image = image(1000);
    r.add("base", "1", &image);
    let layer = image.image.manifest.value.layers[0].digest;
    let hints = [(layer, ["base".to_string(), "absent".into()].into())].into();
    let progress = Arc::new(Counter::default());
    let to = r.reference("app:1");
    let done = client()
        .push(&to, &image.content, Arc::new(image.blobs.clone()), &hints, progress.clone())
        .await
        .unwrap();
    assert!(done.iter().any(|(d, u)| d.digest == layer && *u == Uploaded::Mounted("base".into())));
    assert_eq!(progress.seen("mounted base"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_survive_faults() {
    let image = image(400_000);
    for (name, rule) in [
        ("5xx at start", Rule::status("POST", "/uploads/", 500).times(2)),
        ("5xx at end", Rule::status("PUT", "/uploads/", 502).times(1)),
        ("closed", Rule::new("PUT", "/uploads/", Action::Hang).times(2)),
        ("silent", Rule::new("PUT", "/uploads/", Action::Silence).times(1)),
        ("forgotten", Rule::status("PUT", "/uploads/", 404).times(1)),
        ("429", Rule::status("HEAD", "/blobs/", 429).times(1)),
        ("manifest", Rule::status("PUT", "/manifests/", 503).times(1)),
    ] {
        let r = TestRegistry::start().await;
        r.rule(rule);
        let to = r.reference("x:1");
        let done = client()
            .push(&to, &image.content, Arc::new(image.blobs.clone()), &MountHints::new(), Arc::new(Silent))
            .await;
        assert!(done.is_ok(), "{name}: {}", harness::chain(&done.unwrap_err()));
        assert!(r.manifest("x", "1").is_some());
    }
}

/// What only saves uploads does not stop a push, also if it fails each time: a killed docker-registry can leave
/// half a link, and answers 500 to HEAD until the blob comes again.
#[tokio::test(flavor = "multi_thread")]
async fn questions_that_always_fail_do_not_stop_a_push() {
    let image = image(1000);
    let layer = image.image.manifest.value.layers[0].digest;
    let hints = [(layer, ["base".to_string()].into())].into();
    let r = TestRegistry::start().await;
    r.rule(Rule::status("HEAD", "/blobs/", 500));
    r.rule(Rule::status("POST", "mount=", 500));
    let to = r.reference("x:1");
    let done = client()
        .push(&to, &image.content, Arc::new(image.blobs.clone()), &hints, Arc::new(Silent))
        .await
        .unwrap_or_else(|e| panic!("{}", harness::chain(&e)));
    assert!(done.iter().all(|(_, u)| *u == Uploaded::Sent));
    assert!(r.manifest("x", "1").is_some());
}

/// The attempts at a blob are as many as are allowed, not the product of two loops.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_are_not_multiplied() {
    let image = image(1000);
    let r = TestRegistry::start().await;
    let to = r.reference("x:1");
    r.rule(Rule::status("POST", "/uploads/", 503));
    let blobs = Arc::new(image.blobs.clone());
    let pushed = client().push(&to, &image.content, blobs, &MountHints::new(), Arc::new(Silent)).await;
    assert!(pushed.is_err());
    assert!(r.count("POST", "/uploads/") <= 3 * image.blobs.digests().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_push_leaves_no_tag() {
    let image = image(1000);
    for rule in [
        Rule::status("PUT", "/uploads/", 500),
        Rule::status("PUT", "/manifests/sha256", 400),
        Rule::new("GET", "/manifests/sha256", Action::Corrupt(30)),
    ] {
        let r = TestRegistry::start().await;
        r.rule(rule);
        let to = r.reference("x:1");
        let done = client()
            .push(&to, &image.content, Arc::new(image.blobs.clone()), &MountHints::new(), Arc::new(Silent))
            .await;
        assert!(done.is_err());
        assert!(r.manifest("x", "1").is_none());
    }
}

/// Gives out other bytes than it should.
struct Damaged(MemoryBlobs, Descriptor);

impl BlobSource for Damaged {
    fn open(&self, blob: &Descriptor) -> io::Result<Box<dyn io::Read + Send>> {
        let mut bytes = self.0.get(&blob.digest).ok_or(io::ErrorKind::NotFound)?.to_vec();
        if blob.digest == self.1.digest {
            bytes[100] ^= 1;
        }
        Ok(Box::new(io::Cursor::new(bytes)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_never_pushed() {
    let r = TestRegistry::start().await;
    let image = image(900_000);
    let big = image.image.manifest.value.layers[1].clone();
    let source = Arc::new(Damaged(image.blobs.clone(), big.clone()));
    let to = r.reference("x:1");
    let e =
        client().push(&to, &image.content, source, &MountHints::new(), Arc::new(Silent)).await.unwrap_err();
    assert!(matches!(e, Error::Source { .. }), "{e}");
    assert!(!r.has_blob("x", &big.digest) && r.manifest("x", "1").is_none());
    let largest = r.requests().iter().map(|q| q.body.len()).max().unwrap();
    assert!((largest as u64) < big.size, "the damaged blob was sent whole");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_ends_in_the_middle_is_renewed() {
    let r = TestRegistry::start().await;
    r.set_auth(Auth::Bearer {
        realm: None,
        user: Some(("u".into(), "p".into())),
        refresh: None,
        life: Duration::from_secs(60),
    });
    // The first upload is refused after it was sent, as by a registry whose token ran out meanwhile.
    let challenge = format!("Bearer realm=\"{}/token\",service=\"test\"", r.url());
    let headers = vec![("www-authenticate".to_string(), challenge)];
    r.rule(Rule::new("PUT", "/uploads/", Action::Answer { status: 401, headers, body: vec![] }).times(1));
    let image = image(300_000);
    let client = client_as(&r.domain(), password("u", "p"));
    let to = r.reference("x:1");
    let done = client
        .push(&to, &image.content, Arc::new(image.blobs.clone()), &MountHints::new(), Arc::new(Silent))
        .await;
    assert!(done.is_ok(), "{}", harness::chain(&done.unwrap_err()));
    assert!(r.count("GET", "/token") >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn upload_locations_on_other_hosts_get_no_credentials() {
    let (r, other) = (TestRegistry::start().await, TestRegistry::start().await);
    r.set_auth(Auth::Basic { user: "u".into(), password: "p".into() });
    let location = vec![("location".to_string(), format!("{}/v2/x/blobs/uploads/1", other.url()))];
    r.rule(Rule::new("POST", "/uploads/", Action::Answer { status: 202, headers: location, body: vec![] }));
    let image = image(100);
    let client = client_as(&r.domain(), password("u", "p"));
    let blob = image.image.manifest.value.layers[0].clone();
    let e = client.push_blob(&r.reference("x:1"), &blob, Arc::new(image.blobs.clone()), &[], &Silent).await;
    assert!(e.is_err());
    assert!(other.count("PUT", "/uploads/") > 0);
    assert!(other.requests().iter().all(|q| q.authorization.is_none()));
    assert!(r.requests().iter().any(|q| q.authorization.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_layers_and_wrong_digests() {
    let r = TestRegistry::start().await;
    let t = image(100);
    let mut manifest = t.image.manifest.value.clone();
    manifest.layers[1].media_type = media::DOCKER_FOREIGN_GZIP.into();
    manifest.layers[1].urls = vec!["https://example.com/layer".into()];
    let bytes = serde_json::to_vec(&manifest).unwrap();
    let oci::Document::Manifest(raw) = oci::Document::parse(&bytes, None).unwrap() else { unreachable!() };
    let foreign = oci::Image { manifest: *raw, config: t.image.config.clone() };
    let progress = Arc::new(Counter::default());
    let to = r.reference("x:1");
    let content = Content::image(&foreign);
    // The test registry, unlike real ones, asks for every layer.
    let e =
        client().push(&to, &content, Arc::new(t.blobs.clone()), &MountHints::new(), progress.clone()).await;
    assert!(e.is_err());
    assert_eq!(progress.seen("skipped"), 1);
    let wrong = r.reference(&format!("x@{}", digest::Digest::of(b"other")));
    let e = client().push(&wrong, &t.content, Arc::new(t.blobs.clone()), &MountHints::new(), progress).await;
    assert!(matches!(e, Err(Error::Verify { .. })));
}
