//! Working containers: made, worked in, looked at, committed and removed.

use crate::place::{EPOCH, Place, run};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Exit code and output of a command with some text as its standard input.
fn piped(command: &mut Command, input: &str) -> (Option<i32>, String) {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8(out.stdout).unwrap())
}

/// Files of an image as `tar -tv` shows them.
fn files(place: &Place, name: &str) -> String {
    let context = place.context_in("export", &[("Dockerfile", &format!("FROM {name}\n"))]);
    place.run(["build", "-q", "-o", "type=tar,dest=files.tar", &context]);
    run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(place.path("files.tar"))).ok()
}

/// Diff ids of an image's layers.
fn layers(place: &Place, name: &str) -> Vec<String> {
    let layers = place.inspect(name)["RootFS"]["Layers"].clone();
    serde_json::from_value(layers).unwrap()
}

#[test]
fn an_image_is_made_a_command_at_a_time() {
    let Some(place) = Place::with_base() else { return };
    let name = place.run(["from", "base"]).ok();
    assert_eq!(name, "base-working-container");
    assert_eq!(place.run(["from", "base"]).ok(), "base-working-container-1");
    let c = name.as_str();
    place.run(["run", c, "--", "sh", "-c", "echo made > /made; rm /etc/passwd; echo x > /gone"]).ok();
    place.run(["run", c, "rm", "/gone"]).ok();
    assert_eq!(place.run(["run", c, "cat", "/made"]).ok(), "made");
    // Exit codes and streams are the command's; what a failed one changed stays.
    let failed = place.run(["run", c, "sh", "-c", "echo out; echo err >&2; echo y > /partial; exit 7"]);
    assert_eq!((failed.code, failed.stdout.as_str(), failed.stderr.as_str()), (Some(7), "out\n", "err\n"));
    assert_eq!(piped(&mut place.command(["run", "-i", c, "cat"]), "a line\n"), (Some(0), "a line\n".into()));
    let seen = place.run([
        "run",
        "-u",
        "7:8",
        "-e",
        "A=b c",
        "-w",
        "/tmp",
        c,
        "sh",
        "-c",
        "id -u; id -g; pwd; echo $A",
    ]);
    assert_eq!(seen.ok(), "7\n8\n/tmp\nb c");
    // The other container saw nothing of it.
    assert_eq!(place.run(["run", "base-working-container-1", "ls", "/made"]).code, Some(1));

    place.context_in("in", &[("a file$HOME", "copied\n"), ("folder/deep/f", "1\n")]);
    place.run(["copy", "--chown", "5:6", "--chmod", "0640", c, "in/a file$HOME", "/odd\"name"]).ok();
    place.run(["copy", c, "in/folder", "/folder/"]).ok();
    place.run(["copy", "--from", "base", c, "/etc/passwd", "/of-image"]).ok();
    place.run(["copy", "--from", c, "base-working-container-1", "/made", "/of-container"]).ok();
    assert_eq!(place.run(["run", "base-working-container-1", "cat", "/of-container"]).ok(), "made");
    let tar = place.busybox_tar();
    place.run(["add", c, tar.to_str().unwrap(), "/unpacked"]).ok();
    place.run(["copy", c, tar.to_str().unwrap(), "/packed"]).ok();

    let history = place.run(["history", "base"]).ok().lines().count();
    let id = place.run(["commit", "--message", "by hand", "--author", "me", c, "app:1"]).ok();
    assert!(id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    assert_eq!(place.inspect("app:1")["Id"], format!("sha256:{id}"));
    assert_eq!(layers(&place, "app:1").len(), layers(&place, "base").len() + 1, "one layer for all");
    assert!(layers(&place, "app:1").starts_with(&layers(&place, "base")));
    let said = place.run(["history", "--no-trunc", "app:1"]).ok();
    assert_eq!(said.lines().count(), history + 1, "{said}");
    assert!(said.contains("RUN cat /made") && said.contains("by hand"), "{said}");
    let seen = files(&place, "app:1");
    for line in
        ["-rw-r----- 5/6", " folder/deep/f", " of-image", " unpacked/bin/busybox", " packed", " partial"]
    {
        assert!(seen.contains(line), "no {line} in\n{seen}");
    }
    assert!(!seen.contains(" etc/passwd") && !seen.contains(" gone"), "{seen}");
    // Nothing tells of what came and went.
    place.run(["save", "-o", "app.tar", "app:1"]).ok();
    let saved = run(Command::new("sh").arg("-c").arg(
        "tar -xOf app.tar --wildcards 'blobs/sha256/*' | tr -c '[:print:]' '\\n' | grep -F .wh. | sort -u",
    ).current_dir(place.dir.path()));
    assert_eq!(saved.stdout.trim(), "etc/.wh.passwd", "{}", saved.stderr);

    // It goes on where it was, and the same again is the same layer.
    place.run(["commit", c, "app:2"]).ok();
    assert_eq!(layers(&place, "app:2"), layers(&place, "app:1"));
    place.run(["run", c, "touch", "/more"]).ok();
    place.run(["commit", "--rm", c, "app:3"]).ok();
    assert_eq!(layers(&place, "app:3").len(), layers(&place, "app:1").len());
    let left = place.run(["containers", "--noheading"]).ok();
    assert!(left.lines().count() == 1 && left.contains("base-working-container-1"), "{left}");
    place.run(["rm", "--all"]).ok();
    assert_eq!(place.run(["containers", "-q"]).ok(), "");
    place.run(["prune", "-a", "-f"]).ok();
    place.run(["inspect", "app:3"]).ok();
    place.verify();
}

#[test]
fn the_configuration_is_that_of_instructions() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "--name", "work", "base"]).ok();
    let changes = [
        "config",
        "--env",
        "PATH=/x:$PATH",
        "--env",
        "Q=a \"b\"\nc",
        "--label",
        "l=v w",
        "--port",
        "80",
        "--port",
        "53/udp",
        "--cmd",
        "serve --now 'a b'",
        "--entrypoint",
        "[\"/bin/e\", \"x\"]",
        "--user",
        "app",
        "--workingdir",
        "/w",
        "--volume",
        "/v",
        "--author",
        "me",
        "--stop-signal",
        "SIGUSR1",
        "--shell",
        "/bin/ash -c",
        "--healthcheck",
        "CMD-SHELL true && true",
        "--healthcheck-interval",
        "5s",
        "--onbuild",
        "RUN true",
        &c,
    ];
    place.run(changes).ok();
    place.run(["config", "--workingdir", "sub", &c]).ok();
    place
        .run([
            "commit",
            "--publisher",
            "Acme",
            "--version",
            "1.2",
            "--change",
            "ENV Z=$Q",
            "-c",
            "EXPOSE 99",
            &c,
            "app",
        ])
        .ok();
    let image = place.inspect("app");
    let config = &image["Config"];
    let expected = serde_json::json!({
        "User": "app",
        "ExposedPorts": {"53/udp": {}, "80/tcp": {}, "99/tcp": {}},
        "Env": ["PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "Q=a \"b\"\nc",
            "Z=a \"b\"\nc"],
        "Entrypoint": ["/bin/e", "x"],
        "Cmd": ["serve", "--now", "a b"],
        "Volumes": {"/v": {}},
        "WorkingDir": "/w/sub",
        "Labels": {"l": "v w", "org.opencontainers.image.vendor": "Acme", "org.opencontainers.image.version": "1.2"},
        "StopSignal": "SIGUSR1",
        "Healthcheck": {"Test": ["CMD-SHELL", "true && true"], "Interval": 5_000_000_000_u64},
        "OnBuild": ["RUN true"],
        "Shell": ["/bin/ash", "-c"],
    });
    assert_eq!(config, &expected);
    assert_eq!(image["Author"], "me");
    // What --change says is for the image, not for the container.
    let taken = [
        "config",
        "--env",
        "Q-",
        "--label",
        "l-",
        "--port",
        "80-",
        "--volume",
        "/v-",
        "--cmd",
        "",
        "--onbuild",
        "-",
        &c,
    ];
    place.run(taken).ok();
    place.run(["commit", &c, "app"]).ok();
    let config = &place.inspect("app")["Config"];
    assert_eq!(config["Env"].as_array().unwrap().len(), 1, "{config}");
    assert_eq!(config["ExposedPorts"], serde_json::json!({"53/udp": {}}));
    assert!(config["Labels"].is_null() && config["Volumes"].is_null() && config["Cmd"].is_null(), "{config}");
    for (args, word) in [
        (vec!["config", &c], "nothing to change"),
        (vec!["config", "--port", "x", &c], "x"),
        (vec!["config", "--stop-signal", "SIGNONE", &c], "SIGNONE"),
        (vec!["config", "--port", "1\nRUN true", &c], "one line"),
        (vec!["config", "--cmd", "'", &c], "quote"),
        (vec!["commit", "--change", "RUN true", &c], "more than change the configuration"),
        (vec!["commit", "--change", "ENV A=b\nRUN true", &c], "not one instruction"),
        (vec!["commit", "--change", "NONSENSE", &c], "NONSENSE"),
        (vec!["commit", &c, "app@sha256:00"], "invalid reference"),
        (vec!["commit", "nobody", "app"], "no such container"),
        (vec!["from", "--name", "work", "base"], "in use"),
        (vec!["from", "--name", "a/b", "base"], "no name"),
        (vec!["from", "--pull=never", "missing"], "missing"),
        (vec!["run", "nobody", "true"], "no such container"),
        (vec!["run", &c, "no-such-program"], "no-such-program"),
        (vec!["run", "--user", "nobody-here", &c, "true"], "nobody-here"),
        (vec!["run", "--mount", "type=secret,id=x", &c, "true"], "secrets"),
        (vec!["run", "--mount", "\"Type=Secret\",id=x", &c, "true"], "secrets"),
        (vec!["copy", &c, "no-such-file", "/"], "no-such-file\": not found\nhint: paths are of this machine"),
        (
            vec!["run", "--mount=type=bind,source=absent,target=/x", &c, "true"],
            "error: \"/absent\": not found",
        ),
        (vec!["copy", "--from", "nobody:1", &c, "/x", "/"], "nobody"),
        (vec!["umount", &c], "not mounted"),
        (vec!["rm", "nobody"], "no such container"),
    ] {
        let said = run(&mut place.command(&args)).err();
        assert!(said.contains(word) && said.starts_with("error: "), "{args:?}: {said}");
    }
    place.verify();
}

#[test]
fn what_else_a_commit_says() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    let config = |arguments: &[&str]| {
        run(&mut place.command(["config"].iter().chain(arguments).copied().chain([c.as_str()])))
    };
    config(&["--annotation", "a=b", "--annotation", "c=d", "--arch", "arm/v7", "--created-by", "by hand"])
        .ok();
    config(&["--annotation", "c-"]).ok();
    place.run(["run", &c, "touch", "/x"]).ok();
    place.run(["commit", &c, "app:1"]).ok();
    let image = place.inspect("app:1");
    assert_eq!((image["Architecture"].as_str(), image["Variant"].as_str()), (Some("arm"), Some("v7")));
    let history = place.run(["history", "app:1"]).ok();
    assert!(history.contains("by hand") && !history.contains("touch"), "{history}");
    assert_eq!(place.run(["history", "-q", "app:1"]).ok().lines().nth(1), Some("<missing>"));
    let saved = place.path("app.tar").display().to_string();
    place.run(["save", "-o", &saved, "app:1"]).ok();
    let saved = std::fs::read(&saved).unwrap();
    let saved = String::from_utf8_lossy(&saved);
    assert!(saved.contains("\"a\": \"b\"") && !saved.contains("\"c\": \"d\""));
    for (arguments, word) in [
        (["--os", "windows"], "can't become one of windows"),
        (["--arch", "a b"], "a b"),
        (["--annotation", "=b"], "needs a name"),
        (["--annotation", "b"], "takes it away"),
    ] {
        let said = config(&arguments).err();
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn files_are_laid_out_and_taken_in() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    let folder = place.run(["mount", &c]).ok();
    assert_eq!(place.run(["mount", &c]).ok(), folder, "once is enough");
    assert!(place.run(["mount"]).ok().contains(&folder));
    let folder = std::path::PathBuf::from(folder);
    fs::write(folder.join("by-hand"), "x").unwrap();
    fs::remove_file(folder.join("etc/passwd")).unwrap();
    // Until it is taken in, nobody knows what the container is.
    for args in [vec!["commit", &c, "app"], vec!["run", &c, "true"], vec!["copy", &c, "base.tar", "/"]] {
        let said = run(&mut place.command(&args)).err();
        assert!(said.contains("is mounted") && said.contains("umount"), "{said}");
    }
    place.run(["umount", &c]).ok();
    assert!(!folder.exists());
    assert_eq!(place.run(["run", &c, "sh", "-c", "cat /by-hand; ls /etc/passwd"]).stdout, "x");
    place.run(["commit", &c, "app"]).ok();
    assert!(files(&place, "app").contains(" by-hand"));
    place.verify();
}

#[test]
fn a_program_of_the_host_sees_the_files() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    let table = || fs::read_to_string("/proc/self/mountinfo").unwrap();
    let before = table();
    for way in ["overlay", "copy"] {
        let mount = |script: &str| {
            let mut command = place.command(["mount", &c, "--", "sh", "-c", script]);
            run(command.env("CTRBUILD_SNAPSHOTTER", way))
        };
        let script = format!(
            "cd \"$CTRBUILD_MOUNT\" && rm -f etc/passwd && echo {way} > by-{way} && ls -d bin && exit 5"
        );
        let seen = mount(&script);
        assert_eq!((seen.code, seen.stdout.as_str()), (Some(5), "bin\n"), "{}", seen.stderr);
        assert_eq!(place.run(["run", &c, "cat", &format!("/by-{way}")]).ok(), way);
        // What goes on would change a layer that nobody expects to change.
        let left = mount("cd \"$CTRBUILD_MOUNT\"; touch left; sleep 3 >&- 2>&- <&- &");
        let left = left.err();
        assert!(left.contains("error: the mounted files are still in use by a program that"), "{left}");
        assert_eq!(place.run(["run", &c, "ls", "/left"]).code, Some(1));
    }
    assert_eq!(place.run(["run", &c, "ls", "/etc/passwd"]).code, Some(1));
    // Killed, it leaves neither a mount nor a process.
    let mut long = place.command(["mount", &c, "--", "sh", "-c", "echo begun; exec sleep 77"]);
    let mut long = long.stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(long.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    assert_eq!(table(), before);
    long.kill().unwrap();
    long.wait().unwrap();
    assert_eq!(
        std::io::Read::read(long.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap(),
        0,
        "sleep has ended"
    );
    place.run(["run", &c, "true"]).ok();
    // It does not wait for itself.
    let own = [env!("CARGO_BIN_EXE_ctrbuild"), "run", &c, "true"];
    let said = run(&mut place.command([&["mount", &c, "--"][..], &own].concat().as_slice())).err();
    assert!(said.contains("is in use by the `mount` that this command runs in"), "{said}");
    assert!(place.run(["mount", &c, "--", "no-such-program"]).err().contains("no-such-program"));
    place.verify();
}

#[test]
fn mounts_and_networks_are_those_of_steps() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    place.context_in("in", &[("file", "of the context\n")]);
    assert_eq!(place.run(["run", "--network=none", &c, "ls", "/sys/class/net"]).ok(), "lo");
    let bind = "type=bind,source=file,target=/m/file";
    assert_eq!(
        place.run(["run", "--contextdir", "in", "--mount", bind, &c, "cat", "/m/file"]).ok(),
        "of the context"
    );
    let image = "type=bind,from=base,source=/etc,target=/m";
    assert_eq!(place.run(["run", "--mount", image, &c, "ls", "/m"]).ok(), "passwd");
    let cache = "type=cache,target=/cache";
    place.run(["run", "--mount", cache, &c, "touch", "/cache/kept"]).ok();
    assert_eq!(place.run(["run", "--mount", cache, &c, "ls", "/cache"]).ok(), "kept");
    place.run(["run", "--mount", "type=tmpfs,target=/t", &c, "touch", "/t/gone"]).ok();
    // Nothing of them is in the container.
    assert_eq!(place.run(["run", &c, "sh", "-c", "ls /m /t /cache 2>/dev/null"]).stdout, "");
    for (args, word) in [
        (["--network", "odd"], "odd"),
        (["--mount", "type=odd,target=/x"], "odd"),
        (["--mount", "type=cache,target=/x y"], "no value"),
        (["--contextdir", "nowhere"], "nowhere"),
    ] {
        let said = run(&mut place.command([&["run"], &args[..], &[c.as_str(), "true"]].concat())).err();
        assert!(said.contains(word), "{args:?}: {said}");
    }
    place.verify();
}

#[test]
fn an_empty_container_is_filled() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "scratch"]).ok();
    assert_eq!(c, "working-container");
    place.run(["copy", "--from", "base", &c, "/bin/busybox", "/bin/"]).ok();
    assert_eq!(place.run(["run", &c, "/bin/busybox", "echo", "there"]).ok(), "there");
    place.run(["commit", &c, "app"]).ok();
    assert_eq!(layers(&place, "app").len(), 1);
    let table = place.run(["containers"]).ok();
    let heading: Vec<&str> =
        table.lines().next().unwrap().split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
    assert_eq!(heading, ["CONTAINER ID", "IMAGE ID", "IMAGE NAME", "CONTAINER NAME"]);
    let all = place.run(["containers", "--json"]).ok();
    let one: serde_json::Value = serde_json::from_str(&all).unwrap();
    assert_eq!((&one["imageName"], &one["name"]), (&"scratch".into(), &"working-container".into()));
    place.run(["commit", "--change", "CMD x", &c]).ok();
    place.verify();
}

/// What a collection would take of containers if it did not know of them.
#[test]
fn collections_leave_containers_alone() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    // More than an overlay may be stacked of: they are merged on the way.
    for n in 0..30 {
        place
            .run(["run", &c, "sh", "-c", &format!("echo {n} > /n; echo {n} > /n{n}; rm -f /n{}", n - 1)])
            .ok();
    }
    place.run(["rmi", "--force", "base"]);
    place.run(["prune", "-a", "-f"]).ok();
    assert_eq!(place.run(["run", &c, "sh", "-c", "cat /n; ls -d /n[0-9]*"]).ok(), "29\n/n29");
    place.run(["commit", &c, "app"]).ok();
    place.run(["rm", &c]).ok();
    place.run(["prune", "-a", "-f"]).ok();
    place.verify();
    assert!(files(&place, "app").contains(" n29"));
}

#[test]
fn the_same_changes_are_the_same_image() {
    let Some(place) = Place::with_base() else { return };
    let mut ids = Vec::new();
    for _ in 0..2 {
        let c = place.run(["from", "base"]).ok();
        place.run(["run", &c, "sh", "-c", "mkdir /d; echo x > /d/f"]).ok();
        let mut commit = place.command(["commit", "--rewrite-timestamp", &c]);
        ids.push(run(commit.env("SOURCE_DATE_EPOCH", EPOCH)).ok());
        let mut commit = place.command(["commit", &c, "app"]);
        run(commit.env("SOURCE_DATE_EPOCH", EPOCH)).ok();
        assert_eq!(place.inspect("app")["Created"], "2023-11-14T22:13:20Z");
    }
    assert_eq!(ids[0], ids[1]);
    let mut commit = place.command(["commit", "base-working-container"]);
    assert!(run(commit.env("SOURCE_DATE_EPOCH", "yesterday")).err().contains("yesterday"));
}

/// Killed at whatever moment, a command leaves the container as it was or as it is to be.
#[test]
fn a_killed_command_leaves_the_container_usable() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    place.run(["run", &c, "sh", "-c", "echo 0 > /n"]).ok();
    for n in 1..12u64 {
        let step = format!("for i in 1 2 3 4 5 6 7 8; do echo $i; done > /big; echo {n} > /n");
        let mut child = place.command(["run", &c, "sh", "-c", &step]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(n * 7));
        child.kill().unwrap();
        child.wait().unwrap();
        let seen: u64 = place.run(["run", &c, "cat", "/n"]).ok().parse().unwrap();
        assert!(seen <= n, "{seen} after {n}");
    }
    for args in [["mount", &c], ["umount", &c], ["commit", &c]] {
        let mut child = place.command(args).stdout(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(5));
        child.kill().unwrap();
        child.wait().unwrap();
        let _ = place.run(["umount", &c]);
        place.run(["run", &c, "cat", "/n"]).ok();
    }
    place.run(["commit", &c, "app"]).ok();
    place.run(["rm", &c]).ok();
    place.run(["prune", "-a", "-f"]).ok();
    place.verify();
}

#[test]
fn one_command_at_a_time() {
    let Some(place) = Place::with_base() else { return };
    let c = place.run(["from", "base"]).ok();
    let mut long = place.command(["run", &c, "sh", "-c", "echo begun; sleep 60"]);
    let mut long = long.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    std::io::Read::read_exact(long.stdout.as_mut().unwrap(), &mut begun).unwrap();
    let said = place.run(["rm", &c]).err();
    assert!(said.contains("in use by another command"), "{said}");
    let all = place.run(["containers", "--json"]).ok();
    assert!(all.contains("\"running\":true"), "{all}");
    let second = place
        .command(["run", &c, "echo", "second"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(300));
    // SIGTERM ends the command, and the exit code says so; the second one's turn has come.
    let pid = rustix::process::Pid::from_child(&long);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let begun = Instant::now();
    assert_eq!(long.wait().unwrap().code(), Some(143));
    let second = second.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&second.stdout), "second\n");
    assert!(String::from_utf8_lossy(&second.stderr).contains("waiting for another command"));
    assert!(begun.elapsed() < Duration::from_secs(20));
    // Two that copy from each other don't wait for each other.
    let d = place.run(["from", "base"]).ok();
    for _ in 0..5 {
        let copy =
            |from: &str, to: &str| place.command(["copy", "--from", from, to, "/bin", "/"]).spawn().unwrap();
        let both = [copy(&c, &d), copy(&d, &c)];
        for mut one in both {
            assert_eq!(one.wait().unwrap().code(), Some(0));
        }
    }
    place.verify();
}

#[test]
fn on_copies_of_layers_it_is_the_same() {
    let Some(place) = Place::with_base() else { return };
    let copies = |args: &[&str]| run(place.command(args).env("CTRBUILD_SNAPSHOTTER", "copy"));
    let c = copies(&["from", "base"]).ok();
    copies(&["run", &c, "sh", "-c", "echo x > /x; rm -r /home; mkdir /home"]).ok();
    copies(&["run", &c, "sh", "-c", "rm /x; echo y > /home/y"]).ok();
    assert_eq!(copies(&["run", &c, "sh", "-c", "ls /home; ls /x"]).stdout, "y\n");
    copies(&["commit", &c, "app"]).ok();
    let seen = files(&place, "app");
    assert!(seen.contains(" home/y") && !seen.contains(" home/app"), "{seen}");
    place.verify();
}

#[test]
fn an_ordinary_user_works_in_containers() {
    let Some(place) = Place::with_base() else { return };
    let Some(rootless) = crate::rootless::Rootless::new(&place) else { return };
    let ctrbuild = |args: &[&str]| run(&mut rootless.command(args));
    place.run(["save", "-o", "saved.tar", "base"]).ok();
    ctrbuild(&["load", "-i", "saved.tar"]).ok();
    let c = ctrbuild(&["from", "base"]).ok();
    assert_eq!(ctrbuild(&["run", &c, "sh", "-c", "id -u; chown 33:44 /etc/passwd"]).ok(), "0");
    assert_eq!(ctrbuild(&["run", "-u", "app", &c, "id", "-u"]).ok(), "1000");
    ctrbuild(&["copy", "--chown", "app", &c, "base.tar", "/"]).ok();
    let folder = ctrbuild(&["mount", &c]).ok();
    let uid = fs::metadata(place.path("user")).map(|m| std::os::unix::fs::MetadataExt::uid(&m)).unwrap();
    // As the user, who is root in there.
    let file = std::path::Path::new(&folder).join("by-hand");
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::chown(&file, Some(uid), Some(uid)).unwrap();
    ctrbuild(&["umount", &c]).ok();
    ctrbuild(&["mount", &c, "--", "sh", "-c", "chown 7:8 \"$CTRBUILD_MOUNT/by-hand\""]).ok();
    ctrbuild(&["config", "--user", "app", &c]).ok();
    ctrbuild(&["containers"]).ok();
    ctrbuild(&["commit", &c, "app"]).ok();
    let context = place.context(&[("Dockerfile", "FROM app\n")]);
    ctrbuild(&["build", "-q", "-o", "type=tar,dest=user/files.tar", &context]).ok();
    let files =
        run(Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(place.path("user/files.tar"))).ok();
    for (name, owner) in [("etc/passwd", "33/44"), ("base.tar", "1000/1001"), ("by-hand", "7/8")] {
        let line = files.lines().find(|l| l.ends_with(&format!(" {name}"))).unwrap_or_default();
        assert!(line.contains(&format!(" {owner} ")), "{name}: {line}");
    }
    ctrbuild(&["rm", "--all"]).ok();
    ctrbuild(&["prune", "-a", "-f"]).ok();
    ctrbuild(&["store", "verify"]).ok();
}
