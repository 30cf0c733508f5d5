//! Layouts of cgroups that a machine may have: each in a mount namespace of its own, with what this kernel has.
//! `cargo xtask torture kernel` does the same on kernels that are told at their start.

use crate::builder::Builder;
use std::process::Command;

/// What is mounted below /sys/fs/cgroup.
const LAYOUTS: [(&str, &str); 4] = [
    ("v1", "v1"),
    ("v2", "mount -t cgroup2 cgroup2 /sys/fs/cgroup"),
    ("hybrid", "v1; mkdir /sys/fs/cgroup/unified; mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified"),
    ("none", "true"),
];

#[test]
fn steps_and_limits_under_every_layout() {
    let Some(b) = Builder::root() else { return };
    let program = b.program.display();
    let hog = "FROM base\nRUN head -c 90000000 /dev/zero | tail -c 89999999 > /dev/null\n";
    let fork = "FROM base\nRUN i=0; while [ $i -lt 60 ]; do sleep 3 & i=$((i+1)); done; wait\n";
    for (name, recipe) in
        [("hog", hog), ("fork", fork), ("plain", "FROM base\nRUN cat /proc/self/cgroup; ls /sys/fs/cgroup\n")]
    {
        b.place.context_in(name, &[("Dockerfile", recipe)]);
    }
    for (layout, mounts) in LAYOUTS {
        // A controller is either free for v2 or bound to v1, whatever is mounted; binding takes the mounting.
        // The hierarchies are those of the whole machine: builders of other tests have their cgroups there too.
        let script = format!(
            "mount --make-rprivate / || exit 9; umount -R /sys/fs/cgroup 2>/dev/null\n\
             v1() {{ mount -t tmpfs cgroups /sys/fs/cgroup || exit 9; for c in memory pids cpu cpuset; do mkdir /sys/fs/cgroup/$c; \
             mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c; done; }}\n{mounts} || exit 9\n\
             own=; build() {{ {program} build --no-cache \"$@\" & own=\"$own $!\"; wait $!; }}\n\
             build --progress=plain plain || exit 1\n\
             build --memory 32m hog; echo hog $?; build --pids-limit 20 fork; echo fork $?\n\
             for pid in $own; do find /sys/fs/cgroup -name \"ctrbuild-*-$pid-*\" -type d | sed 's/^/left /'; done\n"
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script]).current_dir(b.place.dir.path()).env_clear();
        command
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CTRBUILD_ROOT", b.store())
            .env("HOME", b.place.path("home"));
        let out = command.output().unwrap();
        let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
        if out.status.code() == Some(9) {
            println!("skipped: {layout} can't be mounted here");
            continue;
        }
        assert!(said.contains("hog 1") && said.contains("fork 1"), "{layout}: {said}{errors}");
        let enforced = |what: &str| errors.contains(what);
        let refused = errors.matches("can't enforce the limit").count();
        // Either the step hit its limit, or it was never started: nothing runs without a limit that was asked for.
        assert!(enforced("out of memory") || refused > 0, "{layout}: {errors}");
        assert!(errors.contains("fork") || refused > 0, "{layout}: {errors}");
        let names =
            ["memory", "pids"].iter().all(|c| std::path::Path::new("/sys/fs/cgroup").join(c).is_dir());
        if names && ["v1", "hybrid"].contains(&layout) {
            assert_eq!(refused, 0, "this machine's own controllers: {layout}: {errors}");
        }
        let left: Vec<_> = said.lines().filter(|l| l.starts_with("left ")).collect();
        assert!(left.is_empty(), "{layout}: {left:?}");
    }
}
