//! `--network`, `--add-host`, `--dns` and who may ask for what.

use crate::builder::{Builder, everybody, marker, processes};
use crate::place::{Outcome, has, run};
use crate::world::{FAR, LOCAL_PORT, World};
use std::process::Stdio;
use std::time::{Duration, Instant};

const STACKS: [(&str, &str); 2] = [("pasta", "passt"), ("slirp4netns", "slirp4netns")];

fn build(world: &World, b: &Builder, recipe: &str, args: &[&str]) -> Outcome {
    let context = b.place.recipe(recipe);
    let mut all = vec!["build", "--progress=plain", "--no-cache"];
    all.extend(args);
    all.push(&context);
    world.run(&b.command(&all))
}

/// A shell function that asks a server for its page. It keeps its own direction open for the while that takes: the
/// passt of Debian 12 loses the end of an answer to whoever closes it before.
const GET: &str =
    r"get() { (printf 'GET / HTTP/1.0\r\n\r\n'; sleep 0.3) | timeout 2 nc -w 1 $1 $2 || echo none at $1; }; ";

#[test]
fn isolated_steps_reach_the_outside_only() {
    everybody(|b| {
        let Some(world) = World::new() else { return };
        world.serve_names();
        let _socket = world.abstract_socket("ctrbuild-test-abstract");
        for (stack, program) in STACKS {
            if !has(&[program]) {
                continue;
            }
            let network = format!("--network=isolated:{stack}");
            let recipe = format!(
                "FROM base\nRUN {GET} get {FAR} 80; get 127.0.0.1 {LOCAL_PORT}; get 10.0.2.2 {LOCAL_PORT}; ls /sys/class/net | xargs; \
                 cat /etc/resolv.conf; nslookup name.test; grep -q ctrbuild-test-abstract /proc/net/unix || echo no abstract; \
                 grep added /etc/hosts\n"
            );
            let said = build(&world, b, &recipe, &[&network, "--add-host", "added:192.0.2.5"]);
            assert_eq!(said.code, Some(0), "{stack}: {}", said.stderr);
            for expected in [
                "from afar",
                "none at 127.0.0.1",
                "none at 10.0.2.2",
                "eth0 lo",
                "nameserver 127.77.0.53",
                "search test",
                "192.0.2.99",
                "no abstract",
                "192.0.2.5␉added",
            ] {
                assert!(said.stderr.contains(expected), "{stack}: {expected} is missing in {}", said.stderr);
            }
            assert!(!said.stderr.contains("the host's own"), "{stack}: {}", said.stderr);
            // What is asked for comes first: a server that the step reaches is named as it is.
            let recipe = format!(
                "FROM base\nRUN cat /etc/resolv.conf\nRUN --network=none ls /sys/class/net | xargs echo only\n\
                 RUN --network=host {GET} get 127.0.0.1 {LOCAL_PORT}\n"
            );
            let args = [&*network, "--dns", "192.0.2.53", "--allow", "network.host"];
            let said = build(&world, b, &recipe, &args);
            assert_eq!(said.code, Some(0), "{stack}: {}", said.stderr);
            for expected in ["nameserver 192.0.2.53", "only lo", "the host's own"] {
                assert!(said.stderr.contains(expected), "{stack}: {expected} is missing in {}", said.stderr);
            }
        }
        assert_eq!(world.helpers(), []);
    });
}

#[test]
fn packets_made_by_hand_do_not_reach_the_hosts_loopback() {
    everybody(|b| {
        let Some(world) = World::new() else { return };
        let listener = world.listener();
        let port = listener.local_addr().unwrap().port();
        for (stack, program) in STACKS {
            if !has(&[program]) {
                continue;
            }
            // With all rights in its network the step sends what is for 127.0.0.1 to the outside. Both stacks
            // would connect that to the host's own loopback.
            let network = format!("--network=isolated:{stack}");
            let recipe = format!(
                "FROM base\nRUN --security=insecure {GET} ip route show table local | grep -q 127 && \
                 ip route del local 127.0.0.1 table local; ip route del local 127.0.0.0/8 table local; \
                 ip route add 127.0.0.1 via 10.0.2.2 src 10.0.2.100 && \
                 ip route get 127.0.0.1 && get 127.0.0.1 {port}; get {FAR} 80\n"
            );
            let said = build(&world, b, &recipe, &[&network, "--allow", "security.insecure"]);
            assert_eq!(said.code, Some(0), "{stack}: {}", said.stderr);
            for expected in ["127.0.0.1 via 10.0.2.2 dev eth0", "none at 127.0.0.1", "from afar"] {
                assert!(said.stderr.contains(expected), "{stack}: {expected} is missing in {}", said.stderr);
            }
            assert!(listener.accept().is_err(), "{stack} has connected to the host's loopback");
        }
    });
}

#[test]
fn helpers_have_no_rights_and_end_with_the_step_and_the_builder() {
    everybody(|b| {
        let Some(world) = World::new() else { return };
        for (stack, program) in STACKS {
            if !has(&[program]) {
                continue;
            }
            for signal in [rustix::process::Signal::KILL, rustix::process::Signal::TERM] {
                let mark = marker();
                let recipe = format!("FROM base\nRUN sleep {mark}\n");
                let context = b.place.recipe(&recipe);
                let network = format!("--network=isolated:{stack}");
                let mut command = world.wrap(&b.command(&["build", &network, "--no-cache", &context]), &[]);
                let mut builder = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
                let started = Instant::now();
                let patience = Duration::from_secs(20);
                while processes(&mark) == 0 {
                    assert!(started.elapsed() < patience, "{stack}: the step does not start");
                    std::thread::sleep(Duration::from_millis(20));
                }
                let helpers = world.helpers();
                assert!(helpers.iter().any(|(name, _)| name.starts_with(program)), "{helpers:?}");
                for (name, status) in &helpers {
                    let field = |key: &str| {
                        let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap_or_default();
                        line.split_whitespace().next().unwrap_or_default().to_string()
                    };
                    // The process that waits for the first one of the pid namespace is the builder's own.
                    let nested =
                        status.lines().any(|l| l.starts_with("NSpid:") && l.split_whitespace().count() > 2);
                    if !nested {
                        assert_eq!(name, "ctrbuild-network-relay");
                        continue;
                    }
                    assert_ne!(field("Uid:"), "0", "{name}");
                    // passt sandboxes itself in a user namespace, and may bind low ports of its own.
                    let low_ports = 1 << 10;
                    assert_eq!(u64::from_str_radix(&field("CapEff:"), 16).unwrap() & !low_ports, 0, "{name}");
                    assert_eq!(field("NoNewPrivs:"), "1", "{name}");
                }
                let pid = rustix::process::Pid::from_child(&builder);
                rustix::process::kill_process(pid, signal).unwrap();
                builder.wait().unwrap();
                let started = Instant::now();
                while !world.helpers().is_empty() || processes(&mark) > 0 {
                    assert!(started.elapsed() < patience, "{stack} lives on: {:?}", world.helpers());
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
        }
    });
}

#[test]
fn what_is_missing_for_isolation_is_named() {
    let Some(b) = Builder::root() else { return };
    let said = b.build("FROM base\nRUN true\n", &["--network=isolated:magic"]).err();
    assert!(said.contains("is not known") && said.contains("isolated:pasta"), "{said}");
    let Some(world) = World::new() else { return };
    if !has(&["passt", "slirp4netns"]) {
        return;
    }
    let programs = ["/usr/bin/passt", "/usr/bin/slirp4netns"];
    let context = b.place.recipe("FROM base\nRUN true\n");
    for (network, hidden, package) in [
        ("isolated", &programs[..], "passt or slirp4netns"),
        ("isolated:pasta", &programs[..1], "package passt"),
        ("isolated:slirp4netns", &programs[1..], "package slirp4netns"),
    ] {
        let command = b.command(&["build", "--network", network, &context]);
        let said = run(&mut world.wrap(&command, hidden)).err();
        assert!(said.contains("is not installed") && said.contains(package), "{said}");
    }
    // The other one will do.
    let command = b.command(&["build", "--network=isolated", "--no-cache", &context]);
    assert_eq!(run(&mut world.wrap(&command, &programs[..1])).code, Some(0));
}

/// The network namespace that a step says it is in, and whether it is the test's own.
fn is_the_hosts(said: &Outcome) -> bool {
    assert_eq!(said.code, Some(0), "{}", said.stderr);
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let own = own.to_str().unwrap();
    let of_step = said.stderr.lines().find_map(|l| l.find("net:[").map(|at| &l[at..])).unwrap();
    own == of_step.trim()
}

#[test]
fn the_recipe_and_the_command_line_choose_the_network() {
    everybody(|b| {
        let step = |of_run: &str| format!("FROM base\nRUN {of_run} readlink /proc/self/ns/net\n");
        for (of_command, of_run, host) in [
            ("default", "", true),
            ("default", "--network=default", true),
            ("default", "--network=none", false),
            ("none", "", false),
            ("none", "--network=default", false),
            ("none", "--network=none", false),
            ("host", "", true),
            ("host", "--network=default", true),
            ("host", "--network=none", false),
        ] {
            let network = format!("--network={of_command}");
            let said = b.build(&step(of_run), &["--no-cache", &network]);
            assert_eq!(is_the_hosts(&said), host, "{network} RUN {of_run}");
        }
        let args = ["--no-cache", "--network=none", "--allow=network.host"];
        assert!(is_the_hosts(&b.build(&step("--network=host"), &args)));
        // Without a network there is still a loopback.
        let said = b.build(
            "FROM base\nRUN --network=none ip addr show lo | grep -o 'inet 127.0.0.1'\n",
            &["--no-cache"],
        );
        assert_eq!(said.code, Some(0), "{}", said.stderr);
    });
}

#[test]
fn privileges_need_the_callers_word_by_every_path() {
    everybody(|b| {
        for (flag, entitlement) in
            [("--network=host", "network.host"), ("--security=insecure", "security.insecure")]
        {
            let allow = ["--no-cache", "--allow", entitlement];
            let trigger = format!("FROM base\nONBUILD RUN {flag} true\n");
            b.build(&trigger, &["-t", "trigger"]).ok();
            for recipe in [
                format!("FROM base\nRUN {flag} true\n"),
                format!("FROM base\nRUN {flag} [\"true\"]\n"),
                format!("FROM base\nRUN {flag} <<END\ntrue\nEND\n"),
                format!("# escape=`\nFROM base\nRUN {flag} `\n true\n"),
                format!("FROM base AS a\nRUN {flag} touch /x\nFROM base\nCOPY --from=a /x /x\n"),
                "FROM trigger\n".to_string(),
            ] {
                let said = b.build(&recipe, &["--no-cache"]).err();
                assert!(said.contains(&format!("{entitlement} is not allowed")), "{recipe}: {said}");
                // One is not the other, and neither is what the environment or an argument says.
                let other = if entitlement == "network.host" { "security.insecure" } else { "network.host" };
                let args = ["--allow", other, "--build-arg", "BUILDKIT_ALLOW=all", "--network=host"];
                b.build(&recipe, &args).err();
                let said = b.build(&recipe, &allow);
                assert_eq!(said.code, Some(0), "{recipe}: {}", said.stderr);
            }
            // A stage that is not built asks for nothing.
            b.build(&format!("FROM base AS a\nRUN {flag} true\nFROM base\nRUN true\n"), &[]).ok();
        }
        let said = b.build("FROM base\nRUN true\n", &["--allow", "everything"]).err();
        assert!(said.contains("is not known"), "{said}");
        // What the word buys.
        let recipe = "FROM base\nRUN --security=insecure grep CapEff /proc/self/status\n";
        let said = b.build(recipe, &["--no-cache", "--allow", "security.insecure"]);
        let set = said
            .stderr
            .lines()
            .find_map(|l| l.rsplit_once("CapEff:").map(|(_, set)| set.trim_start_matches(['\t', '␉'])));
        let set = u64::from_str_radix(set.unwrap().trim(), 16).unwrap();
        let admin = 1 << 21;
        assert!(set & admin != 0, "{set:x}");
    });
}

#[test]
fn odd_names_and_addresses_are_refused() {
    let Some(b) = Builder::root() else { return };
    for host in [
        "a b:192.0.2.1",
        "a\nb:192.0.2.1",
        "a\tb:192.0.2.1",
        "a#:192.0.2.1",
        "a\u{1b}[2J:192.0.2.1",
        "a\u{2028}b:192.0.2.1",
        ":192.0.2.1",
        "a:",
        "a",
        "a:192.0.2",
        "a:192.0.2.1\n",
        "a:192.0.2.1 b",
        "a:[::1",
        "a:name",
    ] {
        let said = b.build("FROM base\nRUN true\n", &["--add-host", host]).err();
        assert!(said.contains("is not HOST:ADDRESS"), "{host:?}: {said}");
    }
    for server in ["", "name", "192.0.2.1\nsearch x", "192.0.2.1 ", "fe80::1%eth0"] {
        let said = b.build("FROM base\nRUN true\n", &["--dns", server]).err();
        assert!(said.contains("is not an address"), "{server:?}: {said}");
    }
    for name in ["a\nb", "a b", "\u{e9}", &"x".repeat(65)] {
        let name = format!("BUILDKIT_SANDBOX_HOSTNAME={name}");
        let said = b.build("FROM base\nRUN true\n", &["--no-cache", "--build-arg", &name]).err();
        assert!(said.contains("host name"), "{name:?}: {said}");
    }
    let recipe = "FROM base\nRUN tail -n 2 /etc/hosts; cat /etc/resolv.conf; echo x >> /etc/hosts\n";
    let args = [
        "--add-host",
        "a=192.0.2.1",
        "--add-host",
        "b-c.d_e:[2001:db8::1]",
        "--dns",
        "192.0.2.53",
        "--dns",
        "::1",
    ];
    let said = b.build(recipe, &args).err();
    for line in [
        "192.0.2.1␉a",
        "2001:db8::1␉b-c.d_e",
        "nameserver 192.0.2.53",
        "nameserver ::1",
        "Read-only file system",
    ] {
        assert!(said.contains(line), "{line} is missing in {said}");
    }
}
