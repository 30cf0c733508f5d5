//! Who gets which credentials, and what is said when they are wrong.

mod harness;

use harness::{amd64, chain, client, client_as, image, password};
use oci::MemoryBlobs;
use registry::{Credential, Error, Login, MountHints, Silent};
use std::sync::Arc;
use std::time::Duration;
use testkit::{Action, Auth, Rule, TestRegistry};

fn bearer(user: Option<(&str, &str)>) -> Auth {
    Auth::Bearer {
        realm: None,
        user: user.map(|(u, p)| (u.into(), p.into())),
        refresh: None,
        life: Duration::from_secs(60),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn basic() {
    let r = TestRegistry::start().await;
    r.add("x", "1", &image(100));
    r.set_auth(Auth::Basic { user: "u".into(), password: "p:w".into() });
    let good = client_as(&r.domain(), password("u", "p:w"));
    good.ping(&r.domain()).await.unwrap();
    good.image(&r.reference("x:1"), &amd64()).await.unwrap();
    let e = client_as(&r.domain(), password("u", "no")).ping(&r.domain()).await.unwrap_err();
    assert_eq!(e.to_string(), format!("registry {} refused the credentials of u", r.domain()));
    assert!(e.hint().unwrap().contains("ctrbuild login"));
    assert!(!chain(&e).contains("no"), "the password is in the message");
    let e = client().image(&r.reference("x:1"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Denied { login: Login::Anonymous, .. }), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_fetched_once_a_scope_and_again_when_refused() {
    let r = TestRegistry::start().await;
    let image = image(100);
    r.add("x", "1", &image);
    r.set_auth(bearer(Some(("u", "p"))));
    let c = client_as(&r.domain(), password("u", "p"));
    let pull = async || {
        let sink = Arc::new(MemoryBlobs::new());
        c.pull(&r.reference("x:1"), &amd64(), sink, Arc::new(Silent)).await.map(|_| ())
    };
    pull().await.unwrap();
    pull().await.unwrap();
    assert_eq!(r.count("GET", "/token"), 1);
    r.revoke_tokens();
    pull().await.unwrap();
    assert_eq!(r.count("GET", "/token"), 2);
    c.push(
        &r.reference("y:1"),
        &image.content,
        Arc::new(image.blobs.clone()),
        &MountHints::new(),
        Arc::new(Silent),
    )
    .await
    .unwrap();
    let e = client_as(&r.domain(), password("u", "wrong"))
        .image(&r.reference("x:1"), &amd64())
        .await
        .unwrap_err();
    assert!(matches!(e, Error::Credentials { .. }), "{e}");
    let e = client().image(&r.reference("x:1"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Denied { login: Login::Anonymous, .. }), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn anonymous_tokens_and_refresh_tokens() {
    let r = TestRegistry::start().await;
    r.add("x", "1", &image(100));
    r.set_auth(bearer(None));
    client().image(&r.reference("x:1"), &amd64()).await.unwrap();
    r.set_auth(Auth::Bearer {
        realm: None,
        user: Some(("nobody".into(), "nothing".into())),
        refresh: Some("r/e+f =".into()),
        life: Duration::from_secs(60),
    });
    r.revoke_tokens();
    let c = client_as(&r.domain(), Credential::Identity { token: "r/e+f =".into() });
    c.image(&r.reference("x:1"), &amd64()).await.unwrap();
    let post = r.requests().into_iter().find(|q| q.method == "POST").unwrap();
    assert!(!post.target.contains("r%2Fe"), "the refresh token is in the URL");
    let c = client_as(&r.domain(), Credential::Identity { token: "stale".into() });
    let e = c.image(&r.reference("x:1"), &amd64()).await.unwrap_err();
    assert!(matches!(e, Error::Credentials { .. }), "{e}");
}

#[tokio::test(flavor = "multi_thread")]
async fn token_services_on_other_hosts_get_no_credentials() {
    let (r, other) = (TestRegistry::start().await, TestRegistry::start().await);
    r.add("x", "1", &image(100));
    r.set_auth(Auth::Bearer {
        realm: Some(format!("{}/token", other.url())),
        user: None,
        refresh: None,
        life: Duration::from_secs(60),
    });
    for credential in [password("u", "secret"), Credential::Identity { token: "secret".into() }] {
        let c = client_as(&r.domain(), credential);
        let e = c.image(&r.reference("x:1"), &amd64()).await.unwrap_err();
        assert!(matches!(e, Error::Denied { login: Login::Withheld, .. }), "{}", chain(&e));
        assert!(e.hint().unwrap().contains("another host"));
    }
    assert!(other.count("GET", "/token") > 0);
    for q in other.requests() {
        assert!(q.authorization.is_none() && q.body.is_empty() && !q.target.contains("secret"));
        assert!(!q.target.contains("account="));
    }
    // Configured as trusted, it gets them.
    let known = registry::StaticCredentials([(r.domain(), password("u", "secret"))].into());
    let config = registry::Config {
        credentials: Arc::new(known),
        token_services: [(r.domain(), [other.domain()].into())].into(),
        ..harness::config()
    };
    let _ = registry::Client::new(config).image(&r.reference("x:1"), &amd64()).await;
    assert!(other.requests().iter().any(|q| q.authorization.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn redirects_to_other_hosts_get_no_credentials() {
    let (r, other) = (TestRegistry::start().await, TestRegistry::start().await);
    let image = image(1000);
    r.add("x", "1", &image);
    other.add("x", "1", &image);
    r.set_auth(Auth::Basic { user: "u".into(), password: "p".into() });
    r.rule(Rule::redirect(
        "GET",
        "/blobs/",
        &format!("{}/v2/x/blobs/{}", other.url(), image.image.config.digest),
    ));
    let c = client_as(&r.domain(), password("u", "p"));
    let blob = image.image.manifest.value.config.clone();
    assert_eq!(
        c.blob_bytes(&r.reference("x:1"), &blob, 1 << 20).await.unwrap(),
        &image.image.config.bytes[..]
    );
    assert_eq!(other.count("GET", "/blobs/"), 1);
    assert!(other.requests().iter().all(|q| q.authorization.is_none()));
    // Nor does a 401 of the other host make it ask again with them.
    other.set_auth(Auth::Basic { user: "u".into(), password: "p".into() });
    assert!(c.blob_bytes(&r.reference("x:1"), &blob, 1 << 20).await.is_err());
    assert!(other.requests().iter().all(|q| q.authorization.is_none()));
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_challenges_end_in_an_error() {
    let r = TestRegistry::start().await;
    for value in [
        "",
        "Negotiate",
        "Bearer",
        "Bearer realm=\"file:///etc/passwd\"",
        "Bearer realm=\"x",
        "Bearer realm=\"ftp://h/\"",
    ] {
        r.clear_rules();
        let headers = vec![("www-authenticate".to_string(), value.to_string())];
        r.rule(Rule::new("", "/v2/", Action::Answer { status: 401, headers, body: vec![] }));
        let e = client_as(&r.domain(), password("u", "p")).ping(&r.domain()).await.unwrap_err();
        assert!(matches!(e, Error::Denied { .. } | Error::Protocol { .. }), "{value}: {e}");
    }
    for body in ["", "{}", "[]", r#"{"token":"a\u0000b"}"#] {
        r.clear_rules();
        r.set_auth(bearer(None));
        r.rule(Rule::new("", "/token", Action::Answer { status: 200, headers: vec![], body: body.into() }));
        let e = client().ping(&r.domain()).await.unwrap_err();
        assert!(matches!(e, Error::Protocol { .. }), "{body}: {e}");
    }
}
