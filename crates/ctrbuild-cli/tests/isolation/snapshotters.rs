//! Steps on overlays and on copies: the same images, to the last byte.

use crate::builder::{Builder, everybody};
use crate::place::EPOCH;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

/// A base with everything that a later step may change, hide or rename.
const BASE: &str = "\
FROM base
RUN mkdir -p /d/sub/deep /gone/x /again/inner /mv/a /swap/one /swap/two /keep /times /links && \\
    echo one > /d/one && echo two > /d/sub/two && echo three > /d/sub/deep/three && echo g > /gone/x/g && \\
    echo i > /again/inner/i && echo j > /again/j && echo m > /mv/a/m && echo 1 > /swap/one/f && echo 2 > /swap/two/f && \\
    echo k > /keep/k && echo t > /times/t && echo l > /links/a && ln /links/a /links/b && ln -s a /links/s && \\
    echo suid > /d/suid && chmod 4755 /d/suid && mkfifo /d/pipe && chown 33:44 /d/one && ln -s /d /dirlink && \\
    echo was-file > /tofolder && mkdir /tofile && echo x > /tofile/x && seq 50000 > /d/big && \\
    mkdir /opq && echo o > /opq/o && echo p > /opq/p && find / -xdev -mount -exec touch -h -d @1600000000 {} + 2>/dev/null; true
";

/// Steps that change it, each in one way that overlay has a form of its own for.
const STEPS: &[(&str, &str)] = &[
    ("nothing", "true"),
    ("new files", "mkdir -p /new/a/b && echo x > /new/a/b/x && echo y > /d/sub/y"),
    ("deletes", "rm /d/one /d/sub/two && rm -rf /gone && rm -r /d/sub/deep"),
    ("a delete and the same again", "rm -rf /again && mkdir -p /again/inner && echo new > /again/inner/new"),
    (
        "an opaque folder with what was there",
        "cp -a /opq /o2 && rm -rf /opq && mkdir /opq && cp -a /o2/o /opq/o && rm -r /o2",
    ),
    (
        "renames of folders",
        "mv /mv/a /mv/b && mv /keep /kept && rm -rf /d/sub/deep && mv /again/inner /d/sub/deep",
    ),
    ("folders that trade places", "mv /swap/one /swap/t && mv /swap/two /swap/one && mv /swap/t /swap/two"),
    ("renames of files", "mv /d/one /d/uno && mv /times/t /keep/k"),
    ("a file becomes a folder", "rm /tofolder && mkdir /tofolder && echo in > /tofolder/in"),
    ("a folder becomes a file", "rm -r /tofile && echo file > /tofile"),
    ("a folder becomes a link", "rm -r /keep && ln -s /d /keep && rm /dirlink && mkdir /dirlink"),
    ("one of two names", "echo more >> /links/a"),
    ("owners of all names", "chown -R 7:8 /links"),
    ("a new name of an old file", "ln /links/b /links/c && ln /d/big /d/big2"),
    ("hard links of new files", "echo h > /h1 && ln /h1 /h2 && mkdir /hd && ln /h1 /hd/h3"),
    ("modes only", "chmod 700 /d/sub && chmod 600 /d/sub/two && chmod 6711 /d/suid"),
    ("owners only", "chown 1000:1001 /d/sub/deep /d/one && chown -h 5:6 /links/s"),
    ("times only", "touch -d @1500000000 /times /d/one && touch -h -d @1500000001 /links/s"),
    ("times of a folder that has news", "echo n > /times/n && touch -d @1500000000 /times"),
    (
        "the same content again",
        "cp -p /d/one /tmp/1 && cat /tmp/1 > /d/one && touch -d @1600000000 /d/one && rm /tmp/1 && touch -d @1600000000 /tmp",
    ),
    ("made and deleted", "echo x > /d/brief && rm /d/brief && mkdir /brief && rmdir /brief"),
    ("a sparse file", "truncate -s 3000000 /sparse && echo end >> /sparse && mkfifo /p2"),
    ("reserved names", "echo x > /.wh.reserved; mkdir -p /.wh.d; true"),
    ("users", "echo 'u:x:5:5::/:/bin/sh' >> /etc/passwd && mkdir -p /home/u && chown 5:5 /home/u"),
];

fn digest(b: &Builder, way: &str, context: &str) -> String {
    let mut command = b.command(&[
        "build",
        "--quiet",
        "--no-cache",
        "--build-arg",
        &format!("SOURCE_DATE_EPOCH={EPOCH}"),
        "-o",
        "type=image,rewrite-timestamp=true",
        context,
    ]);
    let out = command.env("CTRBUILD_SNAPSHOTTER", way).output().unwrap();
    assert!(out.status.success(), "{way}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A stage for each step. What later steps see of it must be the same as well, and what is copied from it.
fn recipe_of(steps: &[(&str, &str)]) -> String {
    let mut stages = String::new();
    let mut last = "FROM scratch\n".to_string();
    for (n, (_, script)) in steps.iter().enumerate() {
        stages.push_str(&format!(
            "FROM changed AS s{n}\nRUN {script}\nRUN find / -xdev -mount -not -path '/proc/*' -not -path '/sys/*' \
             -not -path '/dev/*' | sort | xargs -d '\\n' stat -c '%n %f %u:%g %t' > /seen 2>/dev/null; \
             cat /links/* > /links-seen\n"
        ));
        last.push_str(&format!("COPY --from=s{n} --parents /d /links /seen /links-seen /{n}/\n"));
    }
    let bound =
        "FROM changed AS bound\nRUN --mount=type=bind,from=s0,target=/m ls -R /m/d /m/links > /bound\n";
    format!("{stages}{bound}{last}COPY --from=bound /bound /\n")
}

#[test]
fn images_are_the_same() {
    everybody(|b| {
        let made = b.build(BASE, &["-t", "changed"]);
        assert_eq!(made.code, Some(0), "{}", made.stderr);
        let same = |recipe: &str| {
            let context = b.place.context_in("both", &[("Dockerfile", recipe)]);
            digest(b, "overlay", &context) == digest(b, "copy", &context)
        };
        if !same(&recipe_of(STEPS)) {
            // Only now is it worth the time to find out which.
            let one = |step: &&(&str, &str)| !same(&recipe_of(std::slice::from_ref(*step)));
            let bad: Vec<_> = STEPS.iter().filter(one).map(|(what, _)| what).collect();
            panic!("different with overlay and copies: {bad:?}");
        }
        b.run(&["store", "verify"]).ok();
        b.run(&["prune", "-a", "-f"]).ok();
    });
}

#[test]
fn file_ops_are_the_same() {
    everybody(|b| {
        let recipe = "FROM base AS a\nCOPY --chown=33:44 --chmod=750 tree /tree\nWORKDIR /work/deep\n\
                      RUN setfattr -n user.k -v v /tree/f 2>/dev/null; true\n\
                      FROM a\nCOPY tree/f /tree/sub/\nCOPY --from=a /tree /again\nADD files.tar /unpacked/\n\
                      RUN rm -r /tree/sub\nCOPY tree /tree\nCOPY --link tree /linked\n";
        let context = b.place.context_in(
            "files",
            &[("Dockerfile", recipe), ("tree/f", "f"), ("tree/sub/g", "g"), ("tree/run", "#!/bin/sh\n")],
        );
        let folder = b.place.path("files");
        fs::set_permissions(folder.join("tree/run"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut tar = Command::new("tar");
        tar.args(["--sort=name", "--mtime=@1600000000", "-C"]).arg(&folder).arg("-cf");
        assert!(tar.arg(folder.join("files.tar")).args(["tree"]).status().unwrap().success());
        assert_eq!(digest(b, "overlay", &context), digest(b, "copy", &context));
    });
}

/// File capabilities survive a copy, and a change of them alone makes a layer.
#[test]
fn capabilities_are_the_same() {
    let Some(b) = Builder::root() else { return };
    let setcap = ["/usr/sbin/setcap", "/sbin/setcap"].into_iter().find(|p| std::path::Path::new(p).exists());
    let Some(setcap) = setcap else { return println!("skipped: setcap is not installed") };
    let root = b.place.path("capable");
    fs::create_dir_all(root.join("bin")).unwrap();
    for name in ["busybox", "ping"] {
        fs::copy(b.place.path("base/bin/busybox"), root.join("bin").join(name)).unwrap();
    }
    std::os::unix::fs::symlink("busybox", root.join("bin/sh")).unwrap();
    let set = Command::new(setcap).arg("cap_net_raw+ep").arg(root.join("bin/ping")).status().unwrap();
    if !set.success() {
        return println!("skipped: setcap is refused here");
    }
    let tar = b.place.path("capable.tar");
    let made =
        Command::new("tar").arg("--xattrs").arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".").status();
    assert!(made.unwrap().success());
    b.run(&["import", tar.to_str().unwrap(), "capable"]).ok();
    // A chmod keeps them, a write drops them, and a rename moves them.
    for script in ["chmod 700 /bin/ping", "echo >> /bin/ping", "/bin/busybox mv /bin/ping /bin/pong", "true"]
    {
        let recipe = format!("FROM capable\nRUN /bin/busybox {}\nCOPY --from=capable /bin/ping /copied\n", {
            script.trim_start_matches("/bin/busybox ")
        });
        let recipe = recipe.replace("RUN /bin/busybox echo", "RUN echo");
        let context = b.place.context_in("caps", &[("Dockerfile", &recipe)]);
        assert_eq!(digest(&b, "overlay", &context), digest(&b, "copy", &context), "{script}");
    }
}

/// What a failed step left can be looked at, and mounts work, on copies as well.
#[test]
fn the_rest_works_on_copies() {
    everybody(|b| {
        let copy = |args: &[&str]| {
            let mut command = b.command(args);
            crate::place::run(command.env("CTRBUILD_SNAPSHOTTER", "copy"))
        };
        let context = b.place.context_in(
            "rest",
            &[("Dockerfile", "FROM base\nUSER app\nRUN echo left > /tmp/left; mknod /tmp/w c 0 0; exit 3\n")],
        );
        let said = copy(&["build", &context]).err();
        assert!(said.contains("exit code: 3"), "{said}");
        let seen = copy(&["shell", "--failed", "--", "sh", "-c", "cat /tmp/left; ls /tmp; echo > /tmp/more"]);
        assert_eq!(seen.ok(), "left\nleft");
        // A device 0:0 is overlay's mark for what is deleted: in a step it is only that.
        let recipe = "FROM base\nRUN mkdir /x && echo 1 > /x/1 && echo 2 > /x/2\n\
                      RUN --mount=type=cache,target=/c --mount=type=bind,target=/b,rw --mount=type=tmpfs,target=/c/t \
                      ! grep ' / overlay' /proc/mounts && rm /x/1 && (mknod /x/1 c 0 0; mkdir /y; mknod /y/w c 0 0; touch /y/f /b/w /c/t/x; true)\n\
                      RUN ls /x /y > /seen; test \"$(cat /seen | tr '\\n' ' ')\" = '/x: 2  /y: f '\n";
        let context = b.place.context_in("marks", &[("Dockerfile", recipe)]);
        let said = copy(&["build", "--progress=plain", "--no-cache", &context]);
        assert_eq!(said.code, Some(0), "{}", said.stderr);
        b.run(&["store", "verify"]).ok();
    });
}

/// A store on an overlay, as in a container: the kernel refuses to stack another one on it.
#[test]
fn copies_are_chosen_where_overlay_is_refused() {
    let Some(b) = Builder::root() else { return };
    let context =
        b.place.context_in("auto", &[("Dockerfile", "FROM base\nRUN rm -r /home && echo x > /x\n")]);
    let expected = digest(&b, "overlay", &context);
    let place = b.place.dir.path().display().to_string();
    for name in ["o/lower", "o/upper", "o/work", "o/merged"] {
        fs::create_dir_all(b.place.path(name)).unwrap();
    }
    let tar = b.place.busybox_tar();
    let script = format!(
        "set -e; cd {place}/o; mount -t overlay overlay -o lowerdir=lower,upperdir=upper,workdir=work merged; \
         export CTRBUILD_ROOT={place}/o/merged/store; {program} import {tar} base >/dev/null; \
         {program} build --progress=plain --build-arg SOURCE_DATE_EPOCH={EPOCH} -o type=image,rewrite-timestamp=true ../auto; \
         ! {program} --snapshotter overlay build --no-cache ../auto 2>/dev/null",
        program = b.program.display(),
        tar = tar.display(),
    );
    let out = Command::new("unshare").args(["--mount", "sh", "-c", &script]).output().unwrap();
    let (said, errors) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    if errors.contains("wrong fs type") || errors.contains("not permitted") {
        return println!("skipped: no overlay can be mounted here");
    }
    assert!(out.status.success(), "{said}{errors}");
    assert!(errors.contains("overlay is refused here"), "{errors}");
    assert_eq!(said, expected);
}
