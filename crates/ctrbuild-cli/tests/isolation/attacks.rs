//! Recipes, bases and contexts that try to get out: the host stays byte-identical, whoever builds.

use crate::builder::{Builder, everybody, marker, processes};
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// A base image whose root holds what `make` puts into a folder (beside busybox).
fn hostile_base(b: &Builder, name: &str, make: impl Fn(&std::path::Path)) {
    let root = b.place.path(&format!("hostile-{name}"));
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::copy(b.place.path("base/bin/busybox"), root.join("bin/busybox")).unwrap();
    symlink("busybox", root.join("bin/sh")).unwrap();
    make(&root);
    let tar = b.place.path(&format!("{name}.tar"));
    let made = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status().unwrap();
    assert!(made.success());
    b.run(&["import", tar.to_str().unwrap(), name]).ok();
}

const PROBE: &str = "RUN echo x > /dev/null; echo x > /dev/file; echo x > /dev/pwned; echo x > /proc/file; \
                     echo x > /sys/file; cat /dev/file /proc/file /sys/file; true\n";

#[test]
fn system_folders_that_are_links() {
    everybody(|b| {
        for folder in ["dev", "proc", "sys"] {
            for up in ["", "../../../../../../../.."] {
                let name = format!("link-{folder}-{}", up.len());
                let target = format!("{up}{}", b.canary().display());
                hostile_base(b, &name, |root| symlink(&target, root.join(folder)).unwrap());
                b.attack_by(&format!("FROM {name}\n{PROBE}"), &[]);
            }
        }
        let target = b.canary().join("null");
        hostile_base(b, "null", |root| {
            fs::create_dir(root.join("dev")).unwrap();
            for node in ["null", "zero", "console", "ptmx", "fd", "shm", "pts"] {
                symlink(&target, root.join("dev").join(node)).unwrap();
            }
        });
        b.attack_by(&format!("FROM null\n{PROBE}"), &[]).ok();
    });
}

#[test]
fn resolver_files_that_are_links() {
    everybody(|b| {
        let target = b.canary().join("file");
        hostile_base(b, "resolver", |root| {
            for file in ["resolv.conf", "hosts", "hostname"] {
                symlink(&target, root.join("etc").join(file)).unwrap();
            }
        });
        b.attack_by("FROM resolver\nRUN cat /etc/hosts /etc/resolv.conf; echo x >> /etc/hosts; true\n", &[]);
    });
}

#[test]
fn working_directories_in_proc() {
    everybody(|b| {
        for n in 3..20 {
            // With a folder of that name in the image, and without.
            b.attack_by(
                &format!("FROM base\nWORKDIR /proc/self/fd/{n}\nRUN echo x > pwned; ls; cat ../file\n"),
                &[],
            );
        }
        for dir in ["/proc/1/root", "/proc/self/cwd/../../..", "/proc/1/cwd"] {
            b.attack_by(
                &format!(
                    "FROM base\nWORKDIR {dir}\nRUN echo x > pwned; cat {}/file; true\n",
                    b.canary().display()
                ),
                &[],
            );
        }
    });
}

#[test]
fn mounts_through_links() {
    everybody(|b| {
        let canary = b.canary();
        let up = format!("../../../../../../../../..{}", canary.display());
        hostile_base(b, "links", |root| {
            symlink(&canary, root.join("out")).unwrap();
            symlink(&up, root.join("up")).unwrap();
            symlink("/proc/self/root", root.join("self")).unwrap();
            symlink("/proc/1/root", root.join("one")).unwrap();
        });
        for link in ["/out", "/up", "/self/out", "/one/out", "/out/new/deep", "/../../.."] {
            for mount in [
                format!("type=tmpfs,target={link}"),
                format!("type=cache,id=a,target={link}"),
                format!("type=bind,target={link},rw"),
                format!("type=bind,from=links,source={link},target=/m,rw"),
                format!("type=cache,id=b,from=links,source={link},target=/m"),
                format!("type=secret,id=s,target={link}/file"),
                format!("type=bind,from=links,source=/,target={link}"),
            ] {
                let recipe = format!(
                    "FROM links\nRUN --mount={mount} cat /m/file /out/file; echo x > /m/file; echo x > /m/pwned; \
                     echo x > /out/pwned; rm -rf /out/* /m/*; true\n"
                );
                b.place.context(&[("Dockerfile", &recipe), ("secret", "s3cr3t-s3cr3t")]);
                b.attack("context", &["--secret", "id=s,src=context/secret"]);
            }
        }
        // Links of the context.
        let context = b.place.context_in("linked", &[("Dockerfile", "")]);
        let folder = b.place.path("linked");
        symlink(&canary, folder.join("out")).unwrap();
        symlink(&up, folder.join("up")).unwrap();
        symlink(canary.join("file"), folder.join("one")).unwrap();
        for source in ["out", "up", "one", "out/file", "../canary", "../../../../canary/file", "./up/file"] {
            let recipe = format!(
                "FROM base\nRUN --mount=type=bind,source={source},target=/m,rw cat /m /m/file; echo x > /m/file; \
                 echo x > /m; true\n"
            );
            fs::write(folder.join("Dockerfile"), recipe).unwrap();
            b.attack(&context, &[]);
        }
    });
}

#[test]
fn cache_ids_are_names_not_paths() {
    everybody(|b| {
        let canary = b.canary().display().to_string();
        for id in
            ["../../../../../canary", "..", ".", &canary, "a/../../b", "a%2f..", "shared.lock", "x\u{1b}[2J"]
        {
            let recipe =
                format!("FROM base\nRUN --mount=type=cache,id={id},target=/c echo x > /c/pwned; ls /c\n");
            b.attack_by(&recipe, &[]).ok();
            b.attack_by(&recipe, &["--build-arg", "BUILDKIT_CACHE_MOUNT_NS=../../.."]).ok();
        }
    });
}

#[test]
fn users_that_wrap_around() {
    everybody(|b| {
        for user in
            ["4294967296", "4294967295", "-1", "2147483648", "0:4294967296", "99999999999999999999", "+0x0"]
        {
            let said = b.attack_by(&format!("FROM base\nUSER {user}\nRUN id\n"), &[]).err();
            assert!(!said.contains("uid=0"), "{user}: {said}");
            assert!(said.contains("range") || said.contains("unable to find"), "{user}: {said}");
        }
        let said = b.attack_by(
            "FROM base\nRUN echo '0:x:1000:1000::/:/bin/sh' >> /etc/passwd\nUSER 0\nRUN id -u\n",
            &[],
        );
        assert!(said.stderr.contains("uid") || said.code == Some(0), "{}", said.stderr);
    });
}

#[test]
fn passwd_files_that_are_none() {
    everybody(|b| {
        let canary = b.canary();
        hostile_base(b, "fifo", |root| {
            let made =
                Command::new("mkfifo").arg(root.join("etc/passwd")).arg(root.join("etc/group")).status();
            assert!(made.unwrap().success());
        });
        hostile_base(b, "huge", |root| {
            fs::File::create(root.join("etc/passwd")).unwrap().set_len(64 << 20).unwrap();
        });
        hostile_base(b, "linked", |root| symlink(canary.join("passwd"), root.join("etc/passwd")).unwrap());
        hostile_base(b, "folder", |root| fs::create_dir(root.join("etc/passwd")).unwrap());
        hostile_base(b, "loop", |root| symlink("passwd", root.join("etc/passwd")).unwrap());
        for base in ["fifo", "huge", "linked", "folder", "loop"] {
            let started = std::time::Instant::now();
            for recipe in ["USER app\nRUN id", "COPY --chown=app Dockerfile /x", "RUN id"] {
                b.attack_by(&format!("FROM {base}\n{recipe}\n"), &[]);
            }
            assert!(started.elapsed().as_secs() < 30, "{base}");
        }
    });
}

#[test]
fn host_names_with_more_in_them() {
    everybody(|b| {
        for host in [
            "a\nb:1.2.3.4",
            "a:1.2.3.4\n6.6.6.6 deb.debian.org",
            "a b:1.2.3.4",
            "a:not-an-address",
            ":1.2.3.4",
        ] {
            let outcome = b.attack_by("FROM base\nRUN cat /etc/hosts\n", &["--add-host", host]);
            assert_ne!(outcome.code, Some(0), "{host:?}: {}", outcome.stderr);
        }
    });
}

#[test]
fn bombs_and_processes_that_stay() {
    everybody(|b| {
        let (stays, bomb) = (marker(), marker());
        b.attack_by(
            &format!("FROM base\nRUN (setsid sleep {stays} </dev/null >/dev/null 2>&1 &) ; (sleep {stays} & sleep {stays} &) & true\n"),
            &[],
        )
        .ok();
        assert_eq!(processes(&stays), 0, "double forks die with the step");
        let recipe = format!(
            "FROM base\nRUN i=0; while [ $i -lt 300 ]; do sleep {bomb} & i=$((i+1)); done; echo all-\"started\"\n"
        );
        let outcome = b.attack_by(&recipe, &["--pids-limit", "40"]);
        if outcome.stderr.contains("can't enforce the limit") {
            return println!("skipped: no cgroup is delegated");
        }
        assert!(!outcome.stderr.contains("all-started"), "{}", outcome.stderr);
        assert_eq!(processes(&bomb), 0);
        let outcome = b.attack_by(
            "FROM base\nRUN head -c 300000000 /dev/zero | tail -c 299999999 > /tmp/x\n",
            &["--memory", "48m"],
        );
        let said = outcome.err();
        assert!(said.contains("out of memory") && said.contains("--memory"), "{said}");
        assert!(said.contains("Dockerfile:2"), "{said}");
    });
}

#[test]
fn the_builder_is_no_program_of_a_step() {
    everybody(|b| {
        b.attack_by("FROM base\nRUN [\"/proc/self/exe\"]\n", &[]);
        b.attack_by("FROM base\nRUN [\"/proc/self/exe\", \"--version\"]\n", &[]);
        hostile_base(b, "script", |root| {
            fs::write(root.join("bin/run"), "#!/proc/self/exe\n").unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(root.join("bin/run"), mode).unwrap();
            symlink("/proc/self/exe", root.join("bin/me")).unwrap();
        });
        b.attack_by("FROM script\nRUN [\"/bin/run\"]\n", &[]);
        b.attack_by("FROM script\nRUN [\"/bin/me\"]\n", &[]);
        b.attack_by(
            "FROM base\nRUN for p in /proc/[0-9]*; do cat $p/exe > /tmp/x; echo x > $p/exe; done 2>/dev/null; true\n",
            &[],
        )
        .ok();
    });
}

#[test]
fn devices_can_not_be_opened() {
    everybody(|b| {
        let recipe = "FROM base\nRUN mknod /d b 7 0; mknod /k c 1 1; mknod /m c 10 200; for d in /d /k /m; do \
                      head -c 1 $d 2>/dev/null | wc -c; done\n";
        let said = b.attack_by(recipe, &[]).stderr;
        assert_eq!(said.lines().filter(|l| l.ends_with(" 0")).count(), 3, "{said}");
        // What a layer brings can't be opened either.
        if b.is_root() {
            let said = b.attack_by(
                "FROM base AS a\nRUN mknod /k c 1 1\nFROM a\nRUN head -c 1 /k 2>/dev/null | wc -c; echo done\n",
                &[],
            );
            assert!(said.stderr.lines().any(|l| l.ends_with(" 0")), "{}", said.stderr);
        }
    });
}

#[test]
fn privileges_only_when_allowed() {
    everybody(|b| {
        for (step, flag) in [("--security=insecure", "security.insecure"), ("--network=host", "network.host")]
        {
            let said = b.attack_by(&format!("FROM base\nRUN {step} id\n"), &[]).err();
            assert!(said.contains(&format!("{flag} is not allowed")), "{said}");
            b.attack_by(&format!("FROM base\nRUN {step} id\n"), &["--allow", flag]).ok();
        }
        // A flag in a variable, a default of an ARG, a trigger.
        let said =
            b.attack_by("FROM base AS a\nONBUILD RUN --security=insecure id\nFROM a\nRUN id\n", &[]).err();
        assert!(said.contains("security.insecure is not allowed"), "{said}");
        let recipe = "FROM base\nRUN grep -E '^Cap(Inh|Bnd|Eff|Amb)|NoNewPrivs|Seccomp:' /proc/self/status\n";
        let said = b.attack_by(recipe, &["--no-cache"]).stderr;
        for line in [
            "CapInh:␉0000000000000000",
            "CapEff:␉00000000a80425fb",
            "CapBnd:␉00000000a80425fb",
            "CapAmb:␉0000000000000000",
            "Seccomp:␉2",
        ] {
            assert!(said.contains(line), "{line} is missing in {said}");
        }
    });
}

/// Escape sequences of recipes, steps and images reach no terminal, neither in text nor in JSON.
#[test]
fn nothing_drives_the_terminal() {
    let Some(b) = Builder::root() else { return };
    let odd = "\u{1b}]0;pwned\u{7}\u{9b}2J\u{202e}";
    let recipe = format!(
        "# syntax=docker/dockerfile:1\n# what {odd}\nFROM base AS a\nARG X=\"{odd}\"\nLABEL \"l{odd}\"=\"{odd}\"\nENV E=\"{odd}\"\n\
         RUN printf 'said\\033[2J\\302\\2332J\\342\\200\\256\\n' # {odd}\nCMD [\"{odd}\"]\nRUN nothing{odd}; exit $FAIL\n"
    );
    let recipe = recipe.replace("ARG X", "ARG FAIL=0\nARG X");
    let context = b.place.recipe(&recipe);
    let build = |mode: &str, more: &[&str]| {
        b.run(&[&["build", mode, "--no-cache", "-t", "odd"], more, &[context.as_str()]].concat())
    };
    let mut outcomes = Vec::new();
    for mode in ["--progress=plain", "--progress=json", "--progress=quiet"] {
        outcomes.push((mode, build(mode, &[])));
        outcomes.push((mode, build(mode, &["--build-arg", "FAIL=3"])));
    }
    for command in [
        "history odd",
        "history --no-trunc odd",
        "history --format json odd",
        "inspect odd",
        "images",
        "images --format json",
        "plan context",
        "plan --format json context",
        "plan --format dot context",
        "debug key context",
        "build --call=outline context",
        "build --call=targets context",
        "build --call=outline,format=json context",
        "build --check context",
        "lint context",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        outcomes.push((command, b.run(&args)));
    }
    let drives = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    for (what, outcome) in outcomes {
        for text in [&outcome.stdout, &outcome.stderr] {
            assert!(!text.contains(drives), "{what}: {text:?}");
        }
        assert!(outcome.code.is_some_and(|c| c <= 1), "{what}: {:?} {}", outcome.code, outcome.stderr);
    }
}
