//! Images in the store: listed, named, removed, carried from store to store.

use crate::place::{Place, run};

const RECIPE: &str = "FROM base\nRUN echo made > /made\nENV A=b\nCMD [\"cat\", \"/made\"]\n";

#[test]
fn names_come_and_go() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    let id = place.run(["build", "-q", "-t", "app:1", "-t", "app:2", &context]).ok();
    place.run(["tag", "app:1", "example.com/team/app:3"]).ok();
    let images = place.run(["images"]).ok();
    for row in ["app", "example.com/team/app"] {
        assert!(images.lines().any(|l| l.starts_with(row)), "{images}");
    }
    let app = place.run(["images", "-q", "app"]).ok();
    assert!(
        !app.is_empty() && app.lines().all(|l| id.contains(l.trim_start_matches("sha256:"))),
        "{app} {id}"
    );
    place.run(["rmi", "app:1"]).ok();
    assert_eq!(place.run(["inspect", "app:1"]).code, Some(1));
    place.run(["inspect", "app:2"]).ok();
    place.run(["rmi", "app:2", "example.com/team/app:3"]).ok();
    let images = place.run(["images"]).ok();
    assert!(!images.contains("app"), "{images}");
    let said = place.run(["rmi", "app:2"]).err();
    assert!(said.contains("app:2"), "{said}");
    place.run(["prune", "-a", "-f"]).ok();
    place.verify();
    place.run(["inspect", "base"]).ok();
}

#[test]
fn among_many_images_removing_one_does_not_wait_for_the_collection() {
    let Some(place) = Place::new() else { return };
    let context = place.recipe("FROM scratch\nCOPY Dockerfile /\n");
    place.run(["build", "-q", "-t", "app:1", &context]).ok();
    let refs = place.root.join("refs");
    let file = |n: usize| refs.join(format!("docker.io%2Flibrary%2Fmany%3A{n}"));
    // Records as docs/store-layout.md allows them without a sum.
    let keeps =
        r#"{"media_type":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:TARGET","size":2}"#;
    let digest = place.inspect("app:1")["Digest"].as_str().unwrap().to_string();
    for n in 0..1100 {
        let text = format!(
            "{{\"version\":1,\"name\":\"docker.io/library/many:{n}\",\"target\":{},\"kind\":\"image\",\"updated\":1}}",
            keeps.replace("TARGET", &"0".repeat(64))
        );
        std::fs::write(file(n), text).unwrap();
    }
    let hex = digest.trim_start_matches("sha256:");
    let blob = place.root.join("blobs/sha256").join(&hex[..2]).join(hex);
    assert!(blob.exists());
    let said = place.run(["rmi", "app:1"]).ok();
    assert!(said.contains("Untagged: app:1") && said.contains(&digest), "{said}");
    let begun = std::time::Instant::now();
    while blob.exists() {
        assert!(begun.elapsed().as_secs() < 60, "nobody collected");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Its lease is gone once it is done.
    while std::fs::read_dir(place.root.join("leases")).unwrap().count() > 0 {
        assert!(begun.elapsed().as_secs() < 60, "the collection does not end");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

#[test]
fn history_and_configuration() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    place.run(["build", "-q", "-t", "app", &context]).ok();
    let history = place.run(["history", "--no-trunc", "app"]).ok();
    for step in ["RUN /bin/sh -c echo made > /made", "ENV A=b", "CMD [\"cat\" \"/made\"]"] {
        assert!(history.contains(step), "no {step:?} in\n{history}");
    }
    // As docker: an object a line.
    let lines = place.run(["history", "--format=json", "app"]).ok();
    let all: Vec<serde_json::Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(all.len() >= 4 && all.iter().all(serde_json::Value::is_object), "{lines}");
    let image = place.inspect("app").to_string();
    assert!(image.contains("\"A=b\"") && image.contains("\"cat\""), "{image}");
}

#[test]
fn saved_images_load_with_all_their_names() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    place.run(["build", "-q", "-t", "app:1", "-t", "app:2", &context]).ok();
    for format in ["oci", "docker"] {
        let file = format!("{format}.tar");
        place.run(["save", "--format", format, "-o", &file, "app:1", "app:2", "base"]).ok();
        let other = place.path(format);
        let on = |args: &[&str]| run(&mut place.command_on(&other, args));
        on(&["load", "-i", &file]).ok();
        for name in ["app:1", "app:2", "base"] {
            let (mine, theirs) = (place.inspect(name), on(&["inspect", name]).ok());
            let id = mine["Id"].as_str().unwrap_or_default();
            assert!(!id.is_empty() && theirs.contains(id), "{format} {name}: {mine}\n{theirs}");
        }
        on(&["store", "verify"]).ok();
        // The same again changes nothing; another image under a taken name needs to be forced.
        on(&["load", "-i", &file]).ok();
        let changed = place.context_in("changed", &[("Dockerfile", "FROM base\nRUN echo other > /made\n")]);
        on(&["build", "-q", "-t", "app:1", &changed]).ok();
        assert_eq!(on(&["load", "-i", &file]).code, Some(1));
        on(&["load", "--force", "-i", &file]).ok();
    }
}

/// Its blob was packed in knowledge of the layer below, which nothing tells any more.
#[test]
fn a_layer_made_here_is_no_damage_without_its_image() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN echo made > /made\n");
    place.run(["build", "-q", "-t", "app", &context]).ok();
    place.run(["save", "--compression", "gzip", "-o", "app.tar", "app"]).ok();
    place.run(["rmi", "app"]).ok();
    place.verify();
}

#[test]
fn an_archive_passes_through_a_pipe() {
    let Some(place) = Place::with_base() else { return };
    let saved = place.command(["save", "base"]).output().unwrap();
    assert!(saved.status.success());
    std::fs::write(place.path("piped"), &saved.stdout).unwrap();
    let other = place.path("other");
    let mut load = place.command_on(&other, ["load"]);
    run(load.stdin(std::fs::File::open(place.path("piped")).unwrap())).ok();
    run(&mut place.command_on(&other, ["inspect", "base"])).ok();
}

#[test]
fn a_damaged_archive_changes_nothing() {
    let Some(place) = Place::with_base() else { return };
    let saved = place.command(["save", "base"]).output().unwrap().stdout;
    for (name, bytes) in
        [("cut", &saved[..saved.len() / 2]), ("empty", &[][..]), ("text", &b"no archive"[..])]
    {
        std::fs::write(place.path(name), bytes).unwrap();
        let other = place.path(&format!("store-{name}"));
        let load = run(&mut place.command_on(&other, ["load", "-i", name]));
        assert_eq!(load.code, Some(1), "{name}: {}", load.stderr);
        assert!(load.stderr.starts_with("error: "), "{}", load.stderr);
        assert_eq!(run(&mut place.command_on(&other, ["images", "-q"])).ok(), "");
        run(&mut place.command_on(&other, ["store", "verify"])).ok();
    }
}

#[test]
fn an_imported_image_has_the_configuration_and_time_that_are_named() {
    let Some(place) = Place::new() else { return };
    let tar = place.busybox_tar();
    let import = |changes: &[&str], name: &str| {
        let mut command = place.command(["import", tar.to_str().unwrap(), name]);
        command.env("SOURCE_DATE_EPOCH", "1600000000");
        run(command.args(changes.iter().flat_map(|change| ["--change", change])))
    };
    let id = import(&["ENV A=1", "ENV B=$A$A", "CMD [\"sh\"]", "LABEL \"a b\"=c"], "made").ok();
    let image = place.inspect("made");
    assert_eq!(image["Created"], "2020-09-13T12:26:40Z");
    let env: Vec<&str> =
        image["Config"]["Env"].as_array().unwrap().iter().filter_map(|e| e.as_str()).collect();
    assert!(env[0].starts_with("PATH=") && env[1..] == ["A=1", "B=11"], "{env:?}");
    assert_eq!(image["Config"]["Cmd"], serde_json::json!(["sh"]));
    assert_eq!(image["Config"]["Labels"]["a b"], "c");
    assert_eq!(place.run(["history", "made"]).ok().lines().count(), 2);
    assert_eq!(import(&["ENV A=1", "ENV B=11", "CMD [\"sh\"]", "LABEL \"a b\"=c"], "again").ok(), id);
    assert_ne!(import(&[], "plain").ok(), id);
    for (change, word) in
        [("RUN true", "more than change"), ("NOTHING x", "NOTHING"), ("", "not one instruction")]
    {
        let said = import(&[change], "refused").err();
        assert!(said.starts_with("error: ") && said.contains(word), "{change}: {said}");
    }
    let listed = place.run(["images", "refused"]);
    assert_eq!(listed.stdout.lines().count(), 1, "{}", listed.stdout);
    let said =
        run(place.command(["import", tar.to_str().unwrap(), "x"]).env("SOURCE_DATE_EPOCH", "noon")).err();
    assert!(said.contains("SOURCE_DATE_EPOCH"), "{said}");
}
