//! Windows images: which one of a list is taken, and what an image inherits of it.

use crate::place::{Place, run};
use testkit::{TestImage, TestRegistry, image, index};

fn versions(list: &[&str]) -> Vec<TestImage> {
    let platform = |version: &&str| oci::Platform {
        os_version: Some(version.to_string()),
        os_features: if version.starts_with("10.0.20348") { vec!["win32k".into()] } else { Vec::new() },
        ..oci::Platform::new("windows", "amd64")
    };
    list.iter().map(|v| image(&platform(v), &[&[("Files/version", v.as_bytes())]])).collect()
}

#[test]
fn the_version_decides() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::start());
    // Not in the order of their age, and the one that is older as text is newer as a number.
    let list = ["10.0.17763.5", "10.0.26100.3", "10.0.9200.9", "10.0.20348.2", "10.0.14393.7"];
    registry.add("os/win", "all", &index(&versions(&list)));
    registry.add("os/win", "old", &index(&versions(&list[2..3])));
    let name = format!("{}/os/win:all", registry.domain());
    let context = place.recipe(&format!("FROM {name}\nLABEL a=b\n"));
    for (host, want) in [
        ("10.0.17763", Some("10.0.17763.5")),
        ("10.0.17763.999", Some("10.0.17763.5")),
        ("10.0.20348.1", Some("10.0.20348.2")),
        ("10.0.25398", Some("10.0.20348.2")),
        ("10.0.26100", Some("10.0.26100.3")),
        ("10.0.27000", Some("10.0.26100.3")),
        ("10.0.18000", None),
        ("6.1.26100", None),
    ] {
        let platform = format!("windows({host})/amd64");
        let built = place.run(["build", "-q", "--platform", &platform, "-t", "app", &context]);
        let Some(want) = want else {
            let said = built.err();
            assert!(
                said.contains("no image for platform") && said.contains("windows(10.0.26100.3)/amd64"),
                "{said}"
            );
            continue;
        };
        built.ok();
        assert_eq!(place.inspect("app")["OsVersion"], want, "{host}");
    }
    // The newest, which is told.
    for args in [
        vec!["build", "--platform", "windows/amd64", "-t", "app", &context],
        vec!["pull", "--platform", "windows/amd64", &name],
        vec!["from", "--platform", "windows/amd64", &name],
    ] {
        let done = run(&mut place.command(&args));
        assert!(
            done.stderr.contains("the image for Windows 10.0.26100.3 was chosen, the newest"),
            "{}",
            done.stderr
        );
        done.ok();
    }
    assert_eq!(place.inspect("app")["OsVersion"], "10.0.26100.3");
    for (recipe, word) in [
        ("RUN dir", "needs a Windows machine"),
        ("COPY --chown=a Dockerfile /x", "Linux images only"),
        ("COPY --chmod=755 Dockerfile /x", "Linux images only"),
    ] {
        let context = place.context_in("bad", &[("Dockerfile", &format!("FROM {name}\n{recipe}\n"))]);
        let said = place.run(["build", "--platform", "windows/amd64", &context]).err();
        assert!(said.contains(word) && said.contains("hint: "), "{said}");
    }
    place.verify();
}
