//! `RUN --mount`: secrets stay secret, caches are shared without waiting for oneself, mistakes are explained.

use crate::builder::{Builder, everybody, marker};
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// However a step passes a secret on, no log has it: on the screen, on disk, in errors.
#[test]
fn secrets_are_masked_however_they_are_said() {
    everybody(|b| {
        let (token, key) = ("tok-value-12345", ["first-key-line-aa", "second-key-line-bb"]);
        let recipe = "FROM base\n\
            RUN --mount=type=secret,id=t --mount=type=secret,id=k --mount=type=cache,target=/c \
              cp /run/secrets/t /c/t; T=$(cat /run/secrets/t); \
              echo \"x${T}y\"; printf \"$T\"; printf '%s\\n' \"$T$T\"; sed 's/^/ /' /run/secrets/k; \
              while read line; do echo \"$line\"; sleep 0.1; done < /run/secrets/k; \
              head -c 7 /run/secrets/t; sleep 0.2; tail -c +8 /run/secrets/t; cat /run/secrets/t >&2; \
              head -c 70000 /dev/zero | tr '\\0' x; cat /run/secrets/t; nslookup $T.example 127.0.0.1; true\n\
            RUN --mount=type=cache,target=/c cat /c/t; exit 1\n";
        let files = [
            ("Dockerfile", recipe),
            ("t", &format!("{token}\n")),
            ("k", &format!("{}\n{}\n", key[0], key[1])),
        ];
        b.place.context(&files);
        let args = ["--secret", "id=t,src=context/t", "--secret", "id=k,src=context/k"];
        let args = [&args[..], &["--no-cache", "--allow-net", "other.example:80"]].concat();
        let said = b.build_in("context", &args).err();
        assert!(said.contains("x***y") && said.contains("***.example is not on the list"), "{said}");
        let mut logs = vec![said];
        for build in fs::read_dir(b.store().join("logs")).unwrap().flatten() {
            let files = fs::read_dir(build.path()).unwrap().flatten();
            logs.extend(files.map(|f| fs::read_to_string(f.path()).unwrap()));
        }
        assert!(logs.len() >= 3);
        for log in logs {
            for secret in [token, key[0], key[1]] {
                assert!(!log.contains(secret), "{secret} is in {log}");
            }
        }
    });
}

#[test]
fn one_step_may_mount_a_cache_twice() {
    everybody(|b| {
        for (first, second) in [("locked", "locked"), ("shared", "locked"), ("private", "locked")] {
            let recipe = format!(
                "FROM base\nRUN --mount=type=cache,id=a,sharing={first},target=/x \
                 --mount=type=cache,id=a,sharing={second},target=/y echo {first} > /y/file; ls /x /y\n"
            );
            b.attack_by(&recipe, &["--no-cache"]).ok();
        }
        // Steps that lock the same two the other way round.
        let stage = |name: &str, one: &str, two: &str| {
            format!(
                "FROM base AS {name}\nRUN --mount=type=cache,id={one},sharing=locked,target=/x \
                 --mount=type=cache,id={two},sharing=locked,target=/y sleep 0.1; echo {name} > /{name}\n"
            )
        };
        let mut recipe = String::new();
        for n in 0..6 {
            let (one, two) = if n % 2 == 0 { ("p", "q") } else { ("q", "p") };
            recipe.push_str(&stage(&format!("s{n}"), one, two));
        }
        recipe.push_str("FROM base\n");
        (0..6).for_each(|n| recipe.push_str(&format!("COPY --from=s{n} /s{n} /s{n}\n")));
        b.attack_by(&recipe, &["--no-cache", "--jobs", "6"]).ok();
    });
}

/// A build in the background, ended with the value.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.0);
        let _already_over = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.0.wait();
    }
}

/// One whose step holds a locked cache until it is ended.
fn holder(b: &Builder) -> Background {
    let recipe = format!(
        "FROM base\nRUN --mount=type=cache,id=held,sharing=locked,target=/c touch /c/held; sleep {}\n",
        marker()
    );
    b.place.context_in("holder", &[("Dockerfile", &recipe)]);
    let mut command = b.command(&["build", "--no-cache", "--progress=quiet", "holder"]);
    let child = Background(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let started = Instant::now();
    let mounts = b.store().join("mounts");
    let held = || {
        let mut caches = fs::read_dir(&mounts).into_iter().flatten().flatten();
        caches.any(|c| c.path().join("shared/fs/held").exists())
    };
    while !held() {
        assert!(started.elapsed() < Duration::from_secs(60), "the holder does not start");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

#[test]
fn locked_caches_keep_other_builds_waiting() {
    everybody(|b| {
        let held = holder(b);
        let step = "RUN --mount=type=cache,id=held,sharing=locked,target=/c ls /c\n";
        b.place.context_in(
            "waiter",
            &[("Dockerfile", &format!("FROM base\n{}", step.replace("ls /c", "ls -l /c")))],
        );
        let mut command = b.command(&["build", "--no-cache", "--progress=plain", "waiter"]);
        let mut waiter = Background(command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
        let errors = waiter.0.stderr.take().unwrap();
        // A build that fails elsewhere does not wait.
        let recipe = format!(
            "FROM base AS a\n{step}FROM base AS b\nRUN sleep 0.5; exit 9\nFROM base\nCOPY --from=a / /\nCOPY --from=b / /\n"
        );
        let started = Instant::now();
        let said = b.build(&recipe, &["--no-cache", "--jobs", "4"]).err();
        assert!(said.contains("exit code: 9"), "{said}");
        assert!(said.contains("waiting for cache mount \"held\", which another step uses"), "{said}");
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
        assert!(waiter.0.try_wait().unwrap().is_none(), "it waits");
        drop(held);
        let said = std::io::read_to_string(errors).unwrap();
        assert!(waiter.0.wait().unwrap().success(), "{said}");
        assert!(said.contains("waiting for cache mount \"held\""), "{said}");
    });
}

#[test]
fn mistakes_of_mounts_are_explained() {
    everybody(|b| {
        for (mount, expected) in [
            ("type=tmpfs,target=/proc/x", "nothing may be mounted in /proc or /sys"),
            ("type=tmpfs,target=/proc", "nothing may be mounted in /proc or /sys"),
            ("type=tmpfs,target=/sys/fs/new", "nothing may be mounted in /proc or /sys"),
            ("type=tmpfs,target=/etc/passwd", "a folder can't be mounted on a file"),
            ("type=bind,source=Dockerfile,target=/tmp", "a file can't be mounted on a folder"),
            ("type=secret,id=t,uid=4294967295", "invalid value 4294967295 for uid"),
            ("type=cache,target=/c,gid=4294967295", "invalid value 4294967295 for gid"),
            ("type=cache,target=/c,source=none", "mount source \"/none\" not found in the cache"),
            ("type=bind,target=/m,source=none", "\"/none\": not found"),
            ("type=tmpfs", "invalid mount target \"/\""),
        ] {
            b.place.context(&[
                ("Dockerfile", &format!("FROM base\nRUN --mount={mount} true\n")),
                ("t", "secret"),
            ]);
            let said = b.attack("context", &["--secret", "id=t,src=context/t"]).err();
            assert!(said.contains(expected) && said.contains("Dockerfile:2"), "{mount}: {said}");
            assert!(!said.contains("internal error") && !said.contains("--privileged"), "{mount}: {said}");
        }
    });
}
