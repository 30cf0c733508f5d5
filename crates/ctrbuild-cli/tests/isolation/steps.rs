//! ssh agents, allow-lists, failed steps, retries, time-outs, logs.

use crate::builder::{Builder, everybody, marker, processes};
use crate::place::{has, run};
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn ssh_agents() {
    everybody(|b| {
        if !has(&["ssh-keygen"]) {
            return;
        }
        let key = b.place.path(if b.is_root() { "home/key" } else { "user/key" });
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", "me", "-f"]).arg(&key))
            .ok();
        // ssh-keygen wants its keys private; the builder must be able to read it.
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&key, mode).unwrap();
        let recipe = "FROM base\nRUN --mount=type=ssh --mount=type=ssh,id=other,target=/tmp/o,mode=0666,uid=1000,gid=1001 \
                      echo sock=$SSH_AUTH_SOCK; stat -c 'at %n %a %u:%g %F' /run/buildkit/ssh_agent.0 /tmp/o\n\
                      RUN echo later=${SSH_AUTH_SOCK-none}; ls /run /tmp || true\n";
        let agent = format!("default={}", key.display());
        let other = format!("other={}", key.display());
        let said = b.build(recipe, &["--ssh", &agent, "--ssh", &other, "-t", "ssh"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        for expected in [
            "sock=/run/buildkit/ssh_agent.0",
            "at /run/buildkit/ssh_agent.0 600 0:0 socket",
            "at /tmp/o 666 1000:1001 socket",
            "later=none",
            "ls: /run: No such file",
        ] {
            assert!(said.stderr.contains(expected), "{expected} is missing in {}", said.stderr);
        }
        let missing = b.build("FROM base\nRUN --mount=type=ssh,required true\n", &[]).err();
        assert!(
            missing.contains("ssh agent \"default\" is not available") && missing.contains("--ssh default"),
            "{missing}"
        );
        b.build("FROM base\nRUN --mount=type=ssh test -z \"$SSH_AUTH_SOCK\"\n", &[]).ok();
        let said = b.build("FROM base\nRUN true\n", &["--ssh", "default"]).err();
        assert!(said.contains("SSH_AUTH_SOCK is not set"), "{said}");
        let said = b.build("FROM base\nRUN true\n", &["--ssh", "default=/etc/passwd"]).err();
        assert!(said.contains("it holds no private key"), "{said}");
    });
}

#[test]
fn failed_steps_can_be_entered() {
    everybody(|b| {
        let out = if b.is_root() { "home/left" } else { "user/left" };
        let none = b.run(&["shell", "--failed", "--", "true"]).err();
        assert!(none.contains("no failed step is kept"), "{none}");
        let recipe = "FROM base\nENV A=b\nWORKDIR /home/app\nRUN --mount=type=secret,id=s,env=TOKEN \
                      echo made > /home/app/made; chown app /home/app/made; echo said; exit 7\n";
        b.place.context(&[("Dockerfile", recipe), ("secret", "tok-tok-tok")]);
        let args = ["--secret", "id=s,src=context/secret", "--on-fail-export", out];
        let said = b.build_in("context", &args).err();
        for expected in ["exit code: 7", "ctrbuild shell --failed", "the whole log is in", "Dockerfile:4"] {
            assert!(said.contains(expected), "{expected} is missing in {said}");
        }
        assert_eq!(fs::read_to_string(b.place.path(out).join("home/app/made")).unwrap(), "made\n");
        let log = said.split("the whole log is in ").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(fs::read_to_string(log).unwrap(), "said\n");

        let inside = |script: &str| b.run(&["shell", "--failed", "--", "sh", "-c", script]);
        let seen = inside("pwd; cat made; stat -c %u made; echo A=$A TOKEN=$TOKEN; id -u; touch more").ok();
        assert_eq!(seen, "/home/app\nmade\n1000\nA=b TOKEN=\n0");
        assert_eq!(inside("ls").ok(), "made", "what a look changes is gone");
        assert_eq!(inside("exit 5").code, Some(5));
        let mut command = b.command(&["shell", "--failed", "--", "cat"]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"by hand").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, b"by hand");
        // The next failure takes its place; a success does not.
        b.build("FROM base\nRUN true\n", &[]).ok();
        assert_eq!(inside("ls").ok(), "made");
        b.build("FROM base\nUSER app\nRUN touch /tmp/second; false\n", &[]).err();
        assert_eq!(inside("id -u; ls /tmp").ok(), "1000\nsecond");
        b.run(&["store", "verify"]).ok();
    });
}

#[test]
fn retries_start_clean_and_are_counted() {
    everybody(|b| {
        let recipe = "FROM base\nRUN --mount=type=cache,target=/c test ! -e /left; touch /left; echo x >> /c/n; \
                      test $(wc -l < /c/n) -ge 3\n";
        let said = b.build(recipe, &["--step-retries", "1"]).err();
        assert!(said.contains("attempt 1 of 2 failed (exit code: 1); the step runs again"), "{said}");
        let said = b.build(recipe, &["--step-retries", "3"]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    });
}

#[test]
fn timeouts_are_named() {
    everybody(|b| {
        let slow = marker();
        let started = std::time::Instant::now();
        let said = b.build(&format!("FROM base\nRUN sleep {slow}\n"), &["--step-timeout", "1"]).err();
        assert!(
            said.contains("timed out") && said.contains("--step-timeout") && said.contains(">>> RUN"),
            "{said}"
        );
        assert!(started.elapsed().as_secs() < 20);
        assert_eq!(processes(&slow), 0);
    });
}

#[test]
fn a_report_says_how_a_step_ended_and_what_it_took() {
    everybody(|b| {
        let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let said = b
            .build(&format!("FROM base\nRUN {burn}; echo burnt\nRUN {burn}; exit 3\n"), &["--no-cache"])
            .err();
        for end in [" DONE ", " FAILED "] {
            assert!(said.lines().any(|l| l.contains(end) && l.contains("(cpu ")), "{end}: {said}");
        }
        assert!(said.contains("exit code: 3") && said.contains("Dockerfile:3"), "{said}");
        let said = b.build("FROM base\nRUN sh -c 'kill -SEGV $$'; exit $?\n", &[]).err();
        assert!(said.contains("exit code: 139") && said.contains("ended by SIGSEGV"), "{said}");
        // The whole in the log, the end on the screen.
        let said = b.build("FROM base\nRUN seq 5000; exit 1\n", &["--quiet"]).err();
        assert!(said.contains("\n5000\n") && !said.contains("\n4000\n"), "{said}");
        let log = said.split("the whole log is in ").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 5000);

        let file = b.place.path(if b.is_root() { "home/meta.json" } else { "user/meta.json" });
        let recipe = format!("FROM base\nRUN {burn}\nCOPY Dockerfile /\n");
        let args = ["--no-cache", "--metadata-file", file.to_str().unwrap()];
        assert_eq!(b.build(&recipe, &args).code, Some(0));
        let metadata: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        let steps = metadata["ctrbuild.steps"].as_array().unwrap();
        let of = |name: &str| steps.iter().find(|s| s["name"].as_str().unwrap().contains(name)).unwrap();
        assert!(
            of("RUN")["cpu"].as_f64().unwrap() > 0.01 && of("RUN")["peakMemory"].as_u64().unwrap() > 0,
            "{metadata}"
        );
        assert!(of("RUN")["seconds"].as_f64().unwrap() > 0.01, "{metadata}");
        assert_eq!(of("COPY")["cached"], false, "{metadata}");
        b.build(&recipe, &args[1..]).code.unwrap();
        let metadata: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert!(
            metadata["ctrbuild.steps"].as_array().unwrap().iter().all(|s| s["cached"] == true),
            "{metadata}"
        );

        let context = b.place.recipe("FROM base\nRUN true\n");
        let json = b.run(&["build", "--no-cache", "--progress=json", &context]);
        let used = json.stderr.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
        let used: Vec<_> = used.filter(|e| e["event"] == "used").collect();
        assert!(used.len() == 1 && used[0]["peakMemory"].as_u64().unwrap() > 0, "{}", json.stderr);
    });
}

#[test]
fn out_of_memory_is_named() {
    let Some(b) = Builder::root() else { return };
    let said = b.build("FROM base\nRUN tail /dev/zero; echo after; exit 1\n", &["--memory", "32m"]);
    if said.stderr.contains("can't enforce the limit") {
        return println!("skipped: no memory controller");
    }
    let said = said.err();
    assert!(said.contains("out of memory") && said.contains("--memory"), "{said}");
}

/// A server of this machine's loopback that says one word.
fn server() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut buffer = [0; 512];
            let _ = std::io::Read::read(&mut stream, &mut buffer);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nhello\n");
        }
    });
    port
}

#[test]
fn allow_lists() {
    everybody(|b| {
        let port = server();
        let allowed = format!("127.0.0.1:{port},deb.example:80,*.wild.example:443");
        let step = |script: &str| format!("FROM base\nRUN --mount=type=tmpfs,target=/x {script}\n");
        let proxied = |request: &str| format!("printf '{request}' | nc 127.0.0.1 3128 | tr -d '\\r'; ");
        let script = [
            proxied(&format!("GET http://127.0.0.1:{port}/ HTTP/1.0\\r\\n\\r\\n")),
            proxied("CONNECT evil.example:443 HTTP/1.1\\r\\n\\r\\n"),
            "echo proxy=$http_proxy; ".into(),
            format!("nc -w 2 127.0.0.1 {port} </dev/null || echo not-the-host; "),
            "nc -w 2 192.0.2.7 80 </dev/null || echo no-route; ".into(),
            "grep deb.example /etc/hosts; cat /etc/resolv.conf; ls /sys/class/net; ".into(),
            "nslookup other.example 127.0.0.1 || true".into(),
        ]
        .concat();
        let said = b.build(&step(&script), &["--no-cache", "--allow-net", &allowed]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        for expected in [
            "hello",
            "HTTP/1.1 403 Forbidden",
            "ctrbuild: evil.example:443 is not on the list of --allow-net",
            "ctrbuild: other.example is not on the list of --allow-net",
            "proxy=http://127.0.0.1:3128",
            "not-the-host",
            "no-route",
            "127.77.0.1␉deb.example",
            "nameserver 127.0.0.1",
        ] {
            assert!(said.stderr.contains(expected), "{expected} is missing in {}", said.stderr);
        }
        let said = b.build("FROM base\nRUN --network=none ls /sys/class/net\n", &["--allow-net", &allowed]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        let args = ["--allow-net", &allowed, "--allow", "network.host"];
        let said = b.build("FROM base\nRUN --network=host echo out\n", &args).err();
        assert!(said.contains("--allow-net forbids"), "{said}");
        let said = b.build("FROM base\nRUN true\n", &["--allow-net", "http://x"]).err();
        assert!(said.contains("is not HOST:PORT"), "{said}");
    });
}

#[test]
fn logs_are_whole_on_disk_and_bounded_in_number() {
    let Some(b) = Builder::root() else { return };
    b.build("FROM base\nRUN seq 100000\n", &["--quiet"]).ok();
    let builds =
        || fs::read_dir(b.store().join("logs")).unwrap().flatten().map(|e| e.path()).collect::<Vec<_>>();
    let log = fs::read_dir(&builds()[0]).unwrap().next().unwrap().unwrap().path();
    assert_eq!(fs::read_to_string(log).unwrap().lines().count(), 100_000);
    for n in 0..120 {
        fs::create_dir(b.store().join(format!("logs/{n:010}-1"))).unwrap();
    }
    b.build("FROM base\nRUN echo again\n", &["--quiet"]).ok();
    assert_eq!(builds().len(), 51, "fifty and this one");
}

/// On most machines all mounts are shared (systemd makes them so): what a step mounts in a folder of the host that it
/// was given must not appear there.
#[test]
fn mounts_of_steps_do_not_reach_the_host() {
    let Some(b) = Builder::root() else { return };
    let place = b.place.dir.path().display().to_string();
    let recipe = "FROM base\nRUN --mount=type=cache,target=/c --mount=type=tmpfs,target=/c/t \
                  --mount=type=bind,target=/b --mount=type=tmpfs,target=/b/deep touch /c/t/x /b/deep/x\n";
    b.place.context_in("shared", &[("Dockerfile", recipe), ("deep/file", "")]);
    fs::create_dir(b.place.path("mnt")).unwrap();
    for way in ["overlay", "copy"] {
        let script = format!(
            "set -e; cd {place}; mount -t tmpfs tmpfs mnt; mount --make-rshared mnt; cp -r shared mnt/; \
             export CTRBUILD_ROOT={place}/mnt/store CTRBUILD_SNAPSHOTTER={way}; {program} import {tar} base > /dev/null; \
             {program} build -q --no-cache mnt/shared > /dev/null; grep {place}/mnt /proc/self/mountinfo",
            program = b.program.display(),
            tar = b.place.busybox_tar().display(),
        );
        let out = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if errors.contains("permitted") || errors.contains("denied") {
            return println!("skipped: nothing can be mounted here");
        }
        assert!(out.status.success(), "{said}{errors}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(said.contains("shared:"), "{said}");
    }
}
