//! Windows images: which one of a list is taken, what an image inherits of it, and the layers that are made here.

use crate::place::{Place, run};
use crate::rootless::Rootless;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
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

/// A base image with drive C, as a layer that somebody else packed.
fn drive(files: &[(&str, &[u8])]) -> TestImage {
    let platform =
        oci::Platform { os_version: Some("10.0.20348.2".into()), ..oci::Platform::new("windows", "amd64") };
    image(&platform, &[files])
}

/// The layers of a saved image, lowest first: names of their entries, and their bytes.
fn layers(place: &Place, archive: &str) -> Vec<(String, Vec<u8>)> {
    let folder = place.path(&format!("{archive}.files"));
    fs::create_dir_all(&folder).unwrap();
    run(Command::new("tar").arg("-C").arg(&folder).arg("-xf").arg(place.path(archive))).ok();
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |v: &Value| folder.join("blobs").join(v.as_str().unwrap().replace(':', "/"));
    let index = read(&folder.join("index.json"));
    let manifest = read(&blob(&index["manifests"][0]["digest"]));
    let one = |layer: &Value| {
        let path = blob(&layer["digest"]);
        (run(Command::new("tar").arg("-tf").arg(&path)).ok(), fs::read(&path).unwrap())
    };
    manifest["layers"].as_array().unwrap().iter().map(one).collect()
}

const RECIPE: &str = "# escape=`\nFROM scratch\nWORKDIR C:\\app\nCOPY data C:data\\\nADD --link Dockerfile `\n  .\n\
    COPY <<x.txt /top.txt\nx\nx.txt\n";

#[test]
fn layers_have_the_form_that_windows_expects() {
    let Some(place) = Place::new() else { return };
    let context = place.context(&[("Dockerfile", RECIPE), ("data/sub/file", "one")]);
    let build =
        ["build", "--platform", "windows/amd64", "--build-arg", "SOURCE_DATE_EPOCH=1700000000", "-t", "app"];
    run(place.command(build).arg(&context)).ok();
    place.run(["save", "-o", "app.tar", "app"]).ok();
    let made = layers(&place, "app.tar");
    let names: Vec<&str> = made.iter().map(|(names, _)| names.as_str()).collect();
    assert_eq!(
        names,
        [
            "Hives/\nFiles/\nFiles/app/",
            "Hives/\nFiles/\nFiles/app/\nFiles/app/data/\nFiles/app/data/sub/\nFiles/app/data/sub/file",
            "Hives/\nFiles/\nFiles/app/\nFiles/app/Dockerfile",
            "Hives/\nFiles/\nFiles/top.txt",
        ]
    );
    for (names, bytes) in &made {
        let text = String::from_utf8_lossy(bytes);
        let count = |what: &str| text.matches(what).count();
        let (all, folders) = (names.lines().count(), names.lines().filter(|n| n.ends_with('/')).count());
        assert_eq!(count("MSWINDOWS.fileattr=16\n"), folders);
        assert_eq!(count("MSWINDOWS.fileattr=32\n"), all - folders);
        assert_eq!(count("MSWINDOWS.rawsd=AQAEg"), all - 2);
        assert_eq!(count("LIBARCHIVE.creationtime="), all - 2);
    }
    let config = place.inspect("app");
    assert_eq!((&config["Os"], &config["Config"]["WorkingDir"]), (&"windows".into(), &"\\app".into()));
    // Other outputs have drive C, whatever way it was packed.
    for output in ["type=local,dest=out", "type=oci,compression=zstd,force-compression=true,dest=z.tar"] {
        run(place.command(build).args(["-o", output]).arg(&context)).ok();
    }
    assert_eq!(fs::read_to_string(place.path("out/app/data/sub/file")).unwrap(), "one");
    assert!(!place.path("out/Files").exists());
    run(place.command(build).args(["-o", "type=tar,dest=c.tar"]).arg(&context)).ok();
    let listed = run(Command::new("tar").arg("-tf").arg(place.path("c.tar"))).ok();
    assert!(listed.lines().any(|l| l == "top.txt") && !listed.contains("Files"), "{listed}");
    place.verify();
    // What an archive brings is packed as before.
    place.run(["rmi", "app"]).ok();
    let other = place.path("other");
    run(place.command_on(&other, ["load", "-i", "z.tar"]).current_dir(place.dir.path())).ok();
    run(&mut place.command_on(&other, ["store", "verify"])).ok();
}

#[test]
fn an_ordinary_user_makes_the_same_layers() {
    let Some(place) = Place::new() else { return };
    let Some(rootless) = Rootless::new(&place) else { return };
    let context = place.context(&[("Dockerfile", RECIPE), ("data/sub/file", "one")]);
    let archive = place.path("user/image.tar");
    let args = [
        "build",
        "-q",
        "--platform=windows/amd64",
        "--build-arg=SOURCE_DATE_EPOCH=1700000000",
        "-o",
        "type=oci,rewrite-timestamp=true,dest=user/image.tar",
        &context,
    ];
    let theirs = (run(&mut rootless.command(&args)).ok(), fs::read(&archive).unwrap());
    fs::remove_file(&archive).unwrap();
    for store in ["one", "two"] {
        let mine = run(&mut place.command_on(&place.path(store), args)).ok();
        assert_eq!(mine, theirs.0, "{store}");
        assert!(fs::read(&archive).unwrap() == theirs.1, "the digests agree and the archives do not");
    }
    run(&mut rootless.command(&["store", "verify"])).ok();
}

#[test]
fn on_a_base_and_from_one() {
    let Some(place) = Place::with_base() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::start());
    let base = drive(&[
        ("Files/Program Files/tool/t.txt", b"tool"),
        ("Files/Windows/w", b"w"),
        ("UtilityVM/Files/u", b"u"),
    ]);
    registry.add("os/win", "1", &base);
    let (win, cache) = (format!("{}/os/win:1", registry.domain()), format!("{}/cache:1", registry.domain()));
    let app = format!("{}/app:1", registry.domain());
    // Made on Linux, put into Windows, and from there into Linux.
    place.run(["save", "-o", "linux.tar", "base"]).ok();
    fs::create_dir(place.path("linux")).unwrap();
    run(Command::new("tar").args(["-C", "linux", "-xf", "linux.tar"]).current_dir(place.dir.path())).ok();
    let recipe = format!(
        "FROM --platform=linux/amd64 lin AS made\nRUN mkdir /out && echo made > /out/made.txt\n\
         FROM {win} AS app\nCOPY --from=made [\"/out\", \"C:/Program Files/tool/\"]\n\
         FROM --platform=linux/amd64 lin AS back\nCOPY --from=app [\"/Program Files\", \"/copied\"]\n\
         RUN --mount=from=app,source=/,target=/c test -e /c/Windows/w && test ! -e /c/UtilityVM && ls /copied/tool > /seen\n"
    );
    let context = place.context(&[("Dockerfile", &recipe)]);
    let layout = format!("lin=oci-layout://{}", place.path("linux").display());
    let build = |store: &str, more: &[&str]| {
        let mut command = place.command_on(&place.path(store), ["build", "--build-context", &layout]);
        run(command.args(more).arg(&context))
    };
    let windows = ["--platform=windows/amd64", "--target=app"];
    let to = format!("type=registry,ref={cache},mode=max");
    build("store", &[&windows[..], &["-t", &app, "--push", "--cache-to", &to]].concat()).ok();
    build("store", &["--target=back", "-o", "type=local,dest=back"]).ok();
    assert_eq!(fs::read_to_string(place.path("back/seen")).unwrap(), "made.txt\nt.txt\n");

    // The base's layer was pushed as it was.
    let manifest: Value = serde_json::from_slice(&registry.manifest("app", "1").unwrap()).unwrap();
    let first = base.image.manifest.value.layers[0].digest.to_string();
    assert_eq!(manifest["layers"][0]["digest"], first);
    assert_eq!(place.inspect(&app)["OsVersion"], "10.0.20348.2");

    // Another machine has the same layer of the cache, knows its form, and packs it as it was.
    let again = build("second", &[&windows[..], &["-t", "app", "--cache-from", &cache]].concat());
    assert!(again.stderr.contains("CACHED"), "{}", again.stderr);
    again.ok();
    let output = "type=oci,dest=second.tar,rewrite-timestamp=true,compression=uncompressed";
    let epoch = ["-q", "--build-arg=SOURCE_DATE_EPOCH=1000", "-o", output];
    build("second", &[&windows[..], &["--cache-from", &cache], &epoch].concat()).ok();
    let (names, bytes) = layers(&place, "second.tar").pop().unwrap();
    let tool = "Files/Program Files/tool";
    assert_eq!(names, format!("Hives/\nFiles/\nFiles/Program Files/\n{tool}/\n{tool}/made.txt"));
    assert_eq!(String::from_utf8_lossy(&bytes).matches("LIBARCHIVE.creationtime=1000\n").count(), 2);
    for store in ["store", "second"] {
        run(&mut place.command_on(&place.path(store), ["store", "verify"])).ok();
    }

    // So was a foreign one, of which the registry has the bytes.
    let mut foreign = base.image.manifest.value.clone();
    foreign.layers[0].media_type = oci::media::DOCKER_FOREIGN_GZIP.into();
    foreign.layers[0].urls = vec!["https://localhost:1/layer".into()];
    registry.add_manifest("os/win", "old", oci::media::OCI_MANIFEST, &serde_json::to_vec(&foreign).unwrap());
    let old = format!("{}/os/win:old", registry.domain());
    let small = place.context_in("small", &[("Dockerfile", &format!("FROM {old}\nCOPY Dockerfile /\n"))]);
    let (third, app) = (place.path("third"), format!("{}/old:1", registry.domain()));
    let args = ["build", "--platform=windows/amd64", "-t", &app, "--push", &small];
    run(&mut place.command_on(&third, args)).ok();
    let manifest: Value = serde_json::from_slice(&registry.manifest("old", "1").unwrap()).unwrap();
    assert_eq!(manifest["layers"][0]["digest"], first, "{manifest}");
    assert!(
        registry.has_blob("old", &first.parse().unwrap()) || manifest["layers"][0]["urls"][0].is_string()
    );

    // A container of it.
    let id = place.run(["from", "--platform=windows/amd64", &win]).ok();
    let id = id.lines().last().unwrap();
    place.run(["copy", id, "context/Dockerfile", "C:/added/"]).ok();
    place.run(["copy", id, "context/Dockerfile", "C:/other/"]).ok();
    assert!(place.run(["mount", id]).err().contains("can't be mounted"));
    place.run(["commit", id, "committed"]).ok();
    place.run(["save", "-o", "committed.tar", "committed"]).ok();
    let own = layers(&place, "committed.tar").pop().unwrap().0;
    assert_eq!(
        own,
        "Hives/\nFiles/\nFiles/added/\nFiles/added/Dockerfile\nFiles/other/\nFiles/other/Dockerfile"
    );
    place.verify();
}

#[test]
fn what_windows_cannot_have_is_said() {
    let Some(place) = Place::new() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = runtime.block_on(TestRegistry::start());
    registry.add("os/win", "1", &drive(&[("Files/Program Files/x", b"")]));
    let win = format!("{}/os/win:1", registry.domain());
    place.context(&[("good/a", ""), ("device/NUL.txt", ""), ("both/a", ""), ("both/A", "")]);
    for (instruction, words) in [
        (
            "COPY [\"good\", \"/PROGRAM FILES/\"]",
            "C:\\PROGRAM FILES and C:\\Program Files differ in case only",
        ),
        (
            "COPY --link [\"good\", \"/PROGRAM FILES/\"]",
            "C:\\PROGRAM FILES and C:\\Program Files differ in case only",
        ),
        ("COPY both /x/", "differ in case only"),
        ("COPY device /x/", "can't have C:\\x\\NUL.txt: its name is that of a device"),
        ("COPY good /com1/", "the name \"com1\" is that of a device of Windows, COM1"),
        ("WORKDIR /a/aux.d", "the name \"aux.d\" is that of a device"),
        ("COPY good D:/x", "not on the system drive"),
        ("COPY good //host/share", "UNC paths are not supported"),
        ("COPY good C:", "no relative path specified"),
    ] {
        let context = place.context(&[("Dockerfile", &format!("FROM {win}\n{instruction}\n"))]);
        let said = place.run(["build", "--platform=windows/amd64", &context]).err();
        assert!(said.contains(words) && said.contains("hint: ") && said.contains("Dockerfile:2"), "{said}");
    }
    // What an image's layers are like is not up to who asks for it.
    let context = place.context(&[("Dockerfile", &format!("FROM {win}\nCOPY good /\n"))]);
    let said = place.run(["build", "--platform=linux/amd64", &context]).err();
    assert!(said.contains("makes an image for windows"), "{said}");
    place.run(["build", "-t", "app", &context]).ok();
    assert_eq!(place.inspect("app")["Os"], "windows");
    place.verify();
}
