//! Two builds of the same input in two stores, with SOURCE_DATE_EPOCH and `rewrite-timestamp`.

use ctrbuild::{
    BuildObserver, BuildRequest, ContextSpec, Error, Output, PullPolicy, Recipe, RemoteFiles, Session, build,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use store::LocalStore;

struct Quiet;

impl BuildObserver for Quiet {
    fn plan(&self, _: &Arc<plan::Plan>, _: &Arc<graph::Graph>) -> Arc<dyn solver::Observer> {
        Arc::new(solver::Quiet)
    }
    fn lookup(&self, _: &str) {}
    fn note(&self, _: &str) {}
    fn transfers(&self) -> Arc<dyn registry::Progress> {
        Arc::new(registry::Silent)
    }
}

/// The manifest's digest of a build in a store of its own.
async fn digest_of(dir: &Path, name: &str, context: &Path, output: &str) -> digest::Digest {
    let store = LocalStore::open(&dir.join(name), Default::default()).unwrap();
    let no_registry = || Err(Error::world("no registry"));
    let host = oci::Platform::new("linux", "amd64");
    let snapshotter = worker::Snapshotter::new(store.clone(), Default::default());
    let session = Session { store, snapshotter, registry: Arc::new(no_registry), host: host.clone() };
    let spec = ContextSpec::Folder(context.to_path_buf());
    let recipe = Recipe::find(&spec, None).unwrap();
    let remote = RemoteFiles::new(&session, BTreeMap::new(), Default::default());
    let request = BuildRequest {
        context: spec,
        recipe,
        contexts: BTreeMap::new(),
        plan: plan::Request {
            build_platform: host,
            build_args: BTreeMap::from([("SOURCE_DATE_EPOCH".into(), "1000000000".into())]),
            ..plan::Request::default()
        },
        platforms: Vec::new(),
        secrets: BTreeMap::new(),
        names: Vec::new(),
        outputs: vec![Output::parse(output).unwrap()],
        pull: PullPolicy::Never,
        cache: solver::CacheMode::Use,
        cache_from: Vec::new(),
        cache_to: Vec::new(),
        isolation: worker::Isolation::default(),
        parallel: 2,
        remote: Arc::new(remote),
        runtime: Arc::new(|| Err(solver::ErrorKind::other("no step runs here"))),
    };
    build(&session, &request, &Quiet).await.unwrap().published().digest()
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_input_gives_equal_digests() {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY f /a/b/f\nENV A=b\nCOPY --link f /g\n")
        .unwrap();
    let write = |text: &str, seconds: u64| {
        let file = std::fs::File::create(context.join("f")).unwrap();
        std::io::Write::write_all(&mut &file, text.as_bytes()).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
    };
    for kind in ["compression=gzip", "compression=zstd", "compression=uncompressed"] {
        let out =
            |n: &str| format!("type=oci,dest={},{kind},rewrite-timestamp=true", dir.path().join(n).display());
        write("same", 1_700_000_000);
        let first = digest_of(dir.path(), &format!("s1{kind}"), &context, &out("1.tar")).await;
        write("same", 1_700_000_999);
        let second = digest_of(dir.path(), &format!("s2{kind}"), &context, &out("2.tar")).await;
        assert_eq!(first, second, "{kind}");
        let bytes = |n: &str| std::fs::read(dir.path().join(n)).unwrap();
        assert!(bytes("1.tar") == bytes("2.tar"), "{kind}");
        write("other", 1_700_000_000);
        let other = digest_of(dir.path(), &format!("s3{kind}"), &context, &out("3.tar")).await;
        assert_ne!(first, other);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn times_show_without_it() {
    let dir = tempfile::tempdir().unwrap();
    let context = dir.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY f /f\n").unwrap();
    let mut digests = Vec::new();
    for (i, seconds) in [1_700_000_000, 1_700_000_999].into_iter().enumerate() {
        let file = std::fs::File::create(context.join("f")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds)).unwrap();
        let out = format!("type=oci,dest={}", dir.path().join("o.tar").display());
        digests.push(digest_of(dir.path(), &format!("s{i}"), &context, &out).await);
    }
    assert_ne!(digests[0], digests[1]);
}
