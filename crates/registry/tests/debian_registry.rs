//! Against a real registry: Debian's docker-registry, and skopeo to read what was pushed.
//!
//! Where one of the programs is missing the test says so and passes.

mod harness;

use harness::{amd64, chain, client, client_as, image, password};
use oci::{MemoryBlobs, Platform, Reference};
use registry::{Client, Error, MountHints, Silent, Uploaded};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// bcrypt of `pass word:1`, made by crypt(3).
const HTPASSWD: &str = "anna:$2y$05$abcdefghijklmnopqrstuusWsnA3PCG6MJhsuMdaZgkE21cQMslZi\n";

struct Server {
    child: Child,
    domain: String,
    folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has(program: &str) -> bool {
    let found =
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

enum Access {
    Open,
    Htpasswd,
    Tls,
}

async fn start(access: Access) -> Option<Server> {
    if !has("docker-registry") {
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let domain = format!("127.0.0.1:{port}");
    let root = folder.path().display();
    let mut yaml = format!(
        "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {root}/data}}, delete: {{enabled: true}}}}\n\
         http:\n  addr: {domain}\n"
    );
    if let Access::Htpasswd = access {
        std::fs::write(folder.path().join("htpasswd"), HTPASSWD).unwrap();
        yaml.push_str(&format!("auth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"));
    }
    if let Access::Tls = access {
        if !make_certificate(folder.path()) {
            return None;
        }
        let tls = format!("  tls: {{certificate: {root}/leaf.pem, key: {root}/leaf.key}}\n");
        yaml.push_str(&tls);
    }
    let config = folder.path().join("config.yml");
    std::fs::write(&config, yaml).unwrap();
    let child = Command::new("docker-registry")
        .arg("serve")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let server = Server { child, domain, folder };
    let start = Instant::now();
    while std::net::TcpStream::connect(&server.domain).is_err() {
        assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not listen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Some(server)
}

/// An authority `ca.pem` and a certificate of it for 127.0.0.1.
fn make_certificate(folder: &Path) -> bool {
    let openssl = |args: &str| {
        let out = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        out.is_ok_and(|o| o.status.success())
    };
    std::fs::write(folder.join("ext"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    let made = openssl(
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=authority",
    ) && openssl("req -newkey rsa:2048 -nodes -keyout leaf.key -out leaf.csr -subj /CN=leaf")
        && openssl(
            "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out leaf.pem -days 2 -extfile ext",
        );
    if !made {
        eprintln!("SKIPPED: openssl is not installed");
    }
    made
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_verified_and_never_given_up() {
    let Some(server) = start(Access::Tls).await else { return };
    let ping = async |change: &dyn Fn(&mut registry::Config)| {
        let mut config = harness::config();
        change(&mut config);
        Client::new(config).ping(&server.domain).await
    };
    let certs = server.folder.path().join("certs.d");
    let own = certs.join(&server.domain);
    std::fs::create_dir_all(&own).unwrap();
    let ca = server.folder.path().join("ca.pem");
    // A folder for the host makes it TLS, but does not yet know the authority.
    let e = ping(&|c| c.certs_dirs = vec![certs.clone()]).await.unwrap_err();
    assert!(matches!(e, Error::Tls { .. }), "{}", chain(&e));
    assert!(e.hint().unwrap().contains("certs.d"));
    std::fs::copy(&ca, own.join("ca.crt")).unwrap();
    ping(&|c| c.certs_dirs = vec![certs.clone()]).await.map_err(|e| chain(&e)).unwrap();
    std::fs::remove_file(own.join("ca.crt")).unwrap();
    // SSL_CERT_FILE and SSL_CERT_DIR.
    let trust = registry::Trust { file: Some(ca.clone()), dir: None };
    ping(&|c| (c.certs_dirs, c.trust) = (vec![certs.clone()], trust.clone()))
        .await
        .map_err(|e| chain(&e))
        .unwrap();
    // Any certificate, where that is configured.
    let any = registry::Insecure::UnverifiedTls;
    ping(&|c| c.insecure = [(server.domain.clone(), any)].into()).await.map_err(|e| chain(&e)).unwrap();
    // Plain HTTP to a TLS port says what to do.
    let e = ping(&|_| ()).await.unwrap_err();
    assert!(e.hint().unwrap().contains("TLS"), "{}", chain(&e));
}

impl Server {
    fn name(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.domain)).unwrap()
    }
}

async fn push(client: &Client, to: &Reference, what: &testkit::TestImage) -> Vec<Uploaded> {
    let source = Arc::new(what.blobs.clone());
    let done = client.push(to, &what.content, source, &MountHints::new(), Arc::new(Silent)).await;
    done.map_err(|e| chain(&e)).unwrap().into_iter().map(|(_, u)| u).collect()
}

/// Copy from the registry into an OCI layout by skopeo; gives its index.
fn skopeo_copy(from: &Reference, to: &Path, more: &[&str]) -> Option<serde_json::Value> {
    if !has("skopeo") {
        return None;
    }
    let out = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--preserve-digests"])
        .args(more)
        .arg(format!("docker://{from}"))
        .arg(format!("oci:{}:x", to.display()))
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    serde_json::from_slice(&std::fs::read(to.join("index.json")).unwrap()).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn push_pull_mount_and_lists() {
    let Some(server) = start(Access::Open).await else { return };
    let c = client();
    let image = image(3_000_000);
    let to = server.name("team/app:1");
    assert!(push(&c, &to, &image).await.iter().all(|u| *u == Uploaded::Sent));
    assert!(push(&c, &to, &image).await.iter().all(|u| *u == Uploaded::Present));

    let sink = MemoryBlobs::new();
    let got =
        c.pull(&to, &amd64(), Arc::new(sink.clone()), Arc::new(Silent)).await.map_err(|e| chain(&e)).unwrap();
    assert_eq!(got.image, image.image);
    assert!(image.blobs.digests().iter().all(|d| sink.get(d) == image.blobs.get(d)));

    let layers = image.image.manifest.value.layers.iter();
    let hints: MountHints = layers.map(|l| (l.digest, ["team/app".to_string()].into())).collect();
    let other = server.name("team/other:1");
    let done = c
        .push(&other, &image.content, Arc::new(image.blobs.clone()), &hints, Arc::new(Silent))
        .await
        .unwrap();
    assert_eq!(done.iter().filter(|(_, u)| *u == Uploaded::Mounted("team/app".into())).count(), 2);

    let arm = testkit::image(&Platform::new("linux", "arm64"), &[&[("a", b"arm")]]);
    let both = testkit::index(&[image.clone(), arm]);
    let multi = server.name("team/app:multi");
    push(&c, &multi, &both).await;
    let mut tags = c.tags(&to).await.unwrap();
    tags.sort();
    assert_eq!(tags, ["1", "multi"]);
    assert_eq!(c.catalog(&server.domain).await.unwrap(), ["team/app", "team/other"]);
    assert_eq!(c.resolve(&multi).await.unwrap().digest, both.content.digest());
    assert!(c.referrers(&to, &image.content.digest()).await.unwrap().is_empty());

    let e = c.resolve(&server.name("team/app:none")).await.unwrap_err();
    assert!(matches!(e, Error::NotFound { .. }), "{e}");
    let e = c.resolve(&server.name("none/none:1")).await.unwrap_err();
    assert!(matches!(e, Error::NotFound { .. }), "{e}");

    let layout = server.folder.path().join("layout");
    if let Some(index) = skopeo_copy(&to, &layout, &[]) {
        assert_eq!(index["manifests"][0]["digest"], image.content.digest().to_string());
    }
    let layout = server.folder.path().join("all");
    if let Some(index) = skopeo_copy(&multi, &layout, &["--all"]) {
        assert_eq!(index["manifests"][0]["digest"], both.content.digest().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_pushed_can_be_pulled() {
    let Some(server) = start(Access::Open).await else { return };
    if !has("skopeo") {
        return;
    }
    let image = image(50_000);
    let from = server.name("x:1");
    push(&client(), &from, &image).await;
    let to = server.name("y:v2s2");
    let out = Command::new("skopeo")
        .args(["copy", "--src-tls-verify=false", "--dest-tls-verify=false", "--format=v2s2"])
        .args([format!("docker://{from}"), format!("docker://{to}")])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let sink = MemoryBlobs::new();
    let got =
        client().pull(&to, &amd64(), Arc::new(sink), Arc::new(Silent)).await.map_err(|e| chain(&e)).unwrap();
    assert_eq!(got.image.manifest.media_type, oci::media::DOCKER_MANIFEST);
    assert_eq!(got.image.config.value.rootfs, image.image.config.value.rootfs);
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_authentication() {
    let Some(server) = start(Access::Htpasswd).await else { return };
    let image = image(500_000);
    let to = server.name("private/app:1");
    let c = client_as(&server.domain, password("anna", "pass word:1"));
    c.ping(&server.domain).await.map_err(|e| chain(&e)).unwrap();
    push(&c, &to, &image).await;
    let got = c.image(&to, &amd64()).await.unwrap();
    assert_eq!(got.image, image.image);
    let e = client_as(&server.domain, password("anna", "wrong")).ping(&server.domain).await.unwrap_err();
    assert!(matches!(e, Error::Credentials { .. }), "{e}");
    let e = client().image(&to, &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Denied { .. }), "{e}");
    let layout = server.folder.path().join("layout");
    if let Some(index) = skopeo_copy(&to, &layout, &["--src-creds", "anna:pass word:1"]) {
        assert_eq!(index["manifests"][0]["digest"], image.content.digest().to_string());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_outlive_a_restart_of_the_registry() {
    let Some(mut server) = start(Access::Open).await else { return };
    let image = image(2_000_000);
    let to = server.name("x:1");
    let mut config = harness::config();
    config.retries.attempts = 12;
    config.retries.first_pause = Duration::from_millis(50);
    let c = Client::new(config);
    let _ = server.child.kill();
    let _ = server.child.wait();
    let pushing = {
        let (c, to, image) = (c.clone(), to.clone(), image.clone());
        tokio::spawn(async move { push(&c, &to, &image).await })
    };
    tokio::time::sleep(Duration::from_millis(300)).await;
    server.child = Command::new("docker-registry")
        .arg("serve")
        .arg(server.folder.path().join("config.yml"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    pushing.await.unwrap();
    assert_eq!(c.image(&to, &amd64()).await.unwrap().image, image.image);
}
