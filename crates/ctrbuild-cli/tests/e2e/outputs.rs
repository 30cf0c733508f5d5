//! `-o`: archives, folders, and that others read them.

use crate::place::{Place, has, listing, run};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const RECIPE: &str = "FROM base\nRUN echo made > /made && chmod 600 /made\nLABEL a=b\n";

#[test]
fn archives_load_again() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    for kind in ["oci", "docker"] {
        let file = format!("{kind}.tar");
        let output = format!("type={kind},dest={file}");
        let digest = place.run(["build", "-t", "app:1", "-o", &output, &context]).ok();
        let other = place.path(kind);
        let loaded = run(&mut place.command_on(&other, ["load", "-i", &file])).ok();
        assert!(loaded.contains("app:1"), "{loaded}");
        let images = run(&mut place.command_on(&other, ["images", "--digests", "--no-trunc"])).ok();
        if kind == "oci" {
            assert!(images.contains(&digest), "{digest} is not in\n{images}");
        }
        // What was loaded can be built on.
        let next =
            place.context_in("next", &[("Dockerfile", "FROM app:1\nRUN test \"$(cat /made)\" = made\n")]);
        run(&mut place.command_on(&other, ["build", "-q", &next])).ok();
        if has(&["skopeo"]) {
            let source = if kind == "oci" { "oci-archive" } else { "docker-archive" };
            let source = format!("{source}:{}", place.path(&file).display());
            let said = run(Command::new("skopeo").args(["inspect", "--config", &source])).ok();
            assert!(said.contains("\"a\": \"b\"") || said.contains("\"a\":\"b\""), "{said}");
        }
    }
}

#[test]
fn a_layout_folder_is_a_base() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    place.run(["build", "-o", "type=oci,tar=false,dest=layout", "-t", "app:1", &context]).ok();
    let next = place.context_in("next", &[("Dockerfile", "FROM dep\nRUN test -f /made\n")]);
    let layout = format!("dep=oci-layout://{}:1", place.path("layout").display());
    let other = place.path("other");
    let build = run(&mut place.command_on(&other, ["build", "-q", "--build-context", &layout, &next]));
    if build.code != Some(0) {
        // The name in the layout may be the whole reference.
        let layout = format!("dep=oci-layout://{}", place.path("layout").display());
        run(&mut place.command_on(&other, ["build", "-q", "--build-context", &layout, &next])).ok();
    }
}

#[test]
fn a_folder_and_a_tar_hold_the_same_files() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(RECIPE);
    place.run(["build", "-o", "folder", "-o", "type=tar,dest=files.tar", &context]).ok();
    fs::create_dir(place.path("unpacked")).unwrap();
    run(Command::new("tar")
        .args(["-xpf"])
        .arg(place.path("files.tar"))
        .arg("-C")
        .arg(place.path("unpacked")))
    .ok();
    let files = listing(&place.path("folder"));
    assert_eq!(files, listing(&place.path("unpacked")));
    assert!(files.contains("0600 0:0 5 made"), "{files}");
    // To standard output the tar is all that is written.
    let out = place.command(["build", "-o", "-", &context]).output().unwrap();
    assert!(out.status.success());
    assert!(out.stdout == fs::read(place.path("files.tar")).unwrap());
}

#[test]
fn a_given_epoch_is_the_time_of_all_files() {
    let Some(place) = Place::with_base() else { return };
    let context = place
        .context(&[("Dockerfile", "FROM base\nCOPY f /f\nRUN mkdir /d && echo x > /d/x\n"), ("f", "f\n")]);
    let epoch = "SOURCE_DATE_EPOCH=1000000000";
    let build = |output: &str| place.run(["build", "--build-arg", epoch, "-o", output, &context]).ok();
    build("type=tar,dest=one.tar");
    build("type=local,dest=out");
    let listed =
        run(Command::new("tar").args(["--full-time", "--utc", "-tvf"]).arg(place.path("one.tar"))).ok();
    assert!(listed.lines().count() > 3, "{listed}");
    for line in listed.lines() {
        assert!(line.contains("2001-09-09 01:46:40"), "{line}");
    }
    for name in ["f", "d", "d/x", "bin"] {
        let modified = fs::metadata(place.path("out").join(name)).unwrap().modified().unwrap();
        assert_eq!(
            modified.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(),
            1_000_000_000,
            "{name}"
        );
    }
    // Another run of the steps gives the same bytes.
    let first = fs::read(place.path("one.tar")).unwrap();
    place.run(["build", "--no-cache", "--build-arg", epoch, "-o", "type=tar,dest=two.tar", &context]).ok();
    assert!(first == fs::read(place.path("two.tar")).unwrap(), "the tars differ");
}

#[test]
fn a_failed_build_leaves_no_output() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN exit 1\n");
    place.run(["build", "-o", "type=oci,dest=x.tar", "--iidfile", "id", &context]).err();
    assert!(!place.path("x.tar").exists());
    assert!(!place.path("id").exists());
    // An earlier one is kept as it was.
    fs::write(place.path("x.tar"), "mine").unwrap();
    place.run(["build", "-o", "type=oci,dest=x.tar", &context]).err();
    assert_eq!(fs::read_to_string(place.path("x.tar")).unwrap(), "mine");
    let parts: Vec<_> = fs::read_dir(place.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(!parts.iter().any(|n| n.contains(".part")), "{parts:?}");
}

/// The ends of the media types of an image's layers.
fn forms(place: &Place, layout: &str) -> Vec<String> {
    let read =
        |path: PathBuf| -> serde_json::Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let layout = place.path(layout);
    let index = read(layout.join("index.json"));
    let digest = index["manifests"][0]["digest"].as_str().unwrap().replace(':', "/");
    let layers = read(layout.join("blobs").join(digest))["layers"].as_array().unwrap().clone();
    layers.iter().map(|l| l["mediaType"].as_str().unwrap().rsplit('.').next().unwrap().to_string()).collect()
}

#[test]
fn layers_made_here_get_the_compression_that_is_named() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN echo x > /x\n");
    let build = |name: &str, options: &str| {
        let output = format!("type=oci,tar=false,dest={name}{options}");
        place.run(["build", "-q", "-t", "app", "-o", &output, &context]).ok();
        forms(&place, name)
    };
    // The base gets a form of its own, as one from a registry has.
    place.run(["save", "-o", "base.tar", "--compression", "gzip", "base"]).ok();
    place.run(["load", "--force", "-i", "base.tar"]).ok();
    assert_eq!(build("a", ""), ["tar+gzip", "tar+gzip"]);
    assert_eq!(build("b", ",compression=zstd"), ["tar+gzip", "tar+zstd"], "whatever an earlier output made");
    assert_eq!(build("c", ",compression=zstd,force-compression=true"), ["tar+zstd", "tar+zstd"]);
    assert_eq!(build("d", ",compression=uncompressed,force-compression=true"), ["tar", "tar"]);
    place.run(["build", "-q", "-t", "app", &context]).ok();
    place.run(["save", "-o", "all.tar", "--compression", "zstd", "--compression-level", "19", "app"]).ok();
    fs::create_dir(place.path("all")).unwrap();
    let tar =
        Command::new("tar").args(["-xf", "all.tar", "-C", "all"]).current_dir(place.dir.path()).status();
    assert!(tar.unwrap().success());
    assert_eq!(forms(&place, "all"), ["tar+zstd", "tar+zstd"]);
    for bad in [["--compression", "xz"], ["--compression-level", "99"]] {
        let said = place.run(["save", "-o", "x", "--compression", "gzip", bad[0], bad[1], "app"]);
        assert_ne!(said.code, Some(0), "{bad:?}");
    }
    assert!(!place.path("x").exists());
}

/// `--annotation` and `annotation.…` of outputs, in all places that docker knows.
#[test]
fn annotations_are_where_they_are_asked_for() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM scratch\nCOPY Dockerfile /\n");
    let json = |folder: &str, digest: Option<&serde_json::Value>| -> serde_json::Value {
        let file = match digest {
            None => "index.json".to_string(),
            Some(digest) => format!("blobs/sha256/{}", &digest.as_str().unwrap()["sha256:".len()..]),
        };
        serde_json::from_slice(&fs::read(place.path(folder).join(file)).unwrap()).unwrap()
    };
    place
        .run([
            "build",
            "--annotation=org.x=1",
            "--annotation=manifest-descriptor:org.Y=a=b",
            "-o",
            "type=oci,tar=false,dest=one,annotation.Org.Z=3",
            &context,
        ])
        .ok();
    let entry = json("one", None)["manifests"][0].clone();
    assert_eq!(entry["annotations"]["org.Y"], "a=b");
    let manifest = json("one", Some(&entry["digest"]));
    assert_eq!(manifest["annotations"], serde_json::json!({"Org.Z": "3", "org.x": "1"}));

    place
        .run([
            "build",
            "--platform=linux/amd64,linux/arm64",
            "--annotation=index,index-descriptor:top=1",
            "--annotation=manifest[linux/arm64]:arm=1",
            "--annotation=manifest-descriptor[linux/arm64]:entry=1",
            "--annotation=both=1",
            "-o",
            "type=oci,tar=false,dest=two",
            &context,
        ])
        .ok();
    let entry = json("two", None)["manifests"][0].clone();
    assert_eq!(entry["annotations"]["top"], "1");
    let index = json("two", Some(&entry["digest"]));
    assert_eq!(index["annotations"], serde_json::json!({"top": "1"}));
    for entry in index["manifests"].as_array().unwrap() {
        let arm = entry["platform"]["architecture"] == "arm64";
        let expected = if arm { serde_json::json!({"entry": "1"}) } else { serde_json::Value::Null };
        assert_eq!(entry["annotations"], expected);
        let manifest = json("two", Some(&entry["digest"]));
        let mut expected = serde_json::json!({"both": "1"});
        if arm {
            expected["arm"] = "1".into();
        }
        assert_eq!(manifest["annotations"], expected);
    }

    // In the local store too, and what has no place is refused before anything is named.
    place.run(["build", "-q", "-t", "kept:1", "--annotation=a=b", &context]).ok();
    let saved = place.path("kept.tar").display().to_string();
    place.run(["save", "-o", &saved, "kept:1"]).ok();
    assert!(String::from_utf8_lossy(&fs::read(&saved).unwrap()).contains("\"a\": \"b\""));
    let said = place.run(["build", "-t", "no:1", "--annotation=index:a=b", &context]).err();
    assert!(said.contains("for an index") && said.contains("hint:"), "{said}");
    // Before a step is run.
    let failing = place.context_in("failing", &[("Dockerfile", "FROM base\nRUN exit 3\n")]);
    let said = place.run(["build", "--annotation=index:a=b", &failing]).err();
    assert!(said.contains("for an index"), "{said}");
    let said = place.run(["build", "--annotation=manifest[linux/s390x]:a=b", &context]).err();
    assert!(said.contains("linux/s390x, which is not built"), "{said}");
    let said = place.run(["build", "--annotation=layer:a=b", &context]).err();
    assert!(said.contains("no place \"layer\""), "{said}");
    assert!(!place.run(["images"]).ok().contains("no "));
}

/// Command lines of docker work as they are, but for what is asked for and not done.
#[test]
fn flags_of_docker() {
    let place = Place::bare();
    let context = place.recipe("FROM scratch\nCOPY Dockerfile /\n");
    let built = place.run([
        "build",
        "-q",
        "--rm",
        "--force-rm=false",
        "--provenance=false",
        "--sbom=false",
        "--attest=type=provenance,disabled=true",
        "--isolation=default",
        &context,
    ]);
    assert_eq!((built.code, built.stderr.as_str()), (Some(0), ""));
    let built = place.run([
        "build",
        "-q",
        "--squash",
        "--security-opt",
        "seccomp=unconfined",
        "--memory-swap=-1",
        &context,
    ]);
    let warnings: Vec<&str> = built.stderr.lines().collect();
    assert_eq!((built.code, warnings.len()), (Some(0), 3), "{warnings:?}");
    assert!(
        warnings.iter().all(|w| w.starts_with("warning: --") && w.contains("has no effect")),
        "{warnings:?}"
    );
    for flag in ["--provenance=mode=max", "--sbom", "--attest=type=sbom"] {
        let said = place.run(["build", flag, &context]).err();
        assert!(said.contains("attestations can't be made yet") && said.contains("hint: leave"), "{said}");
    }
}
