//! What is in the way of removing an image.

use crate::place::{Place, run};
use std::process::Stdio;

fn id(place: &Place, name: &str) -> String {
    place.inspect(name)["Id"].as_str().unwrap()[7..19].to_string()
}

#[test]
fn containers_are_in_the_way() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN echo x > /x\n");
    place.run(["build", "-q", "-t", "app:1", "-t", "app:2", &context]).ok();
    let image = id(&place, "app:1");
    let c = place.run(["from", "app:1"]).ok();
    let container = place.run(["containers", "-q"]).ok();
    // As long as the image has another name, one of them can go.
    assert_eq!(place.run(["rmi", "app:1"]).ok(), "Untagged: app:1");
    let stopped = format!(
        "error: conflict: unable to delete {image} (must be forced) - image is being used by stopped container {container}\n"
    );
    for name in ["app:2", &image] {
        let said = place.run(["rmi", name]).err();
        assert!(said.starts_with(&stopped) && said.contains(&format!("ctrbuild rm {c}")), "{said}");
    }
    let mut long = place.command(["run", &c, "sh", "-c", "echo begun; sleep 60"]);
    let mut long = long.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    std::io::Read::read_exact(long.stdout.as_mut().unwrap(), &mut [0; 6]).unwrap();
    let running = format!(
        "conflict: unable to delete {image} (cannot be forced) - image is being used by running container {container}\n"
    );
    for args in [&["rmi", "app:2"][..], &["rmi", "-f", "app:2"], &["rmi", "--force", &image]] {
        let said = run(&mut place.command(args)).err();
        assert!(said.contains(&running), "{said}");
    }
    long.kill().unwrap();
    long.wait().unwrap();
    // Forced, the name is gone; the container has what it needs.
    assert_eq!(place.run(["rmi", "--force", "app:2"]).ok(), "Untagged: app:2");
    assert_eq!(place.run(["run", &c, "cat", "/x"]).ok(), "x");
    place.run(["rm", &c]).ok();
    place.verify();
}

#[test]
fn what_is_gone_already_is_no_failure_with_force() {
    let place = Place::bare();
    assert_eq!(place.run(["rmi", "absent"]).code, Some(1));
    let forced = place.run(["rmi", "--force", "absent"]);
    assert_eq!((forced.code, forced.stdout.as_str()), (Some(0), ""));
    assert!(forced.stderr.contains("Unable to find image 'absent:latest' locally"), "{}", forced.stderr);
}

#[test]
fn children_are_in_the_way() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nENV A=b\nRUN echo x > /x\n");
    place.run(["build", "-q", "-t", "middle", &context]).ok();
    let context = place.context_in("top", &[("Dockerfile", "FROM middle\nENV C=d\n")]);
    place.run(["build", "-q", "-t", "top:1", &context]).ok();
    let middle = id(&place, "middle");
    let said = place.run(["rmi", "middle"]).err();
    let want =
        format!("conflict: unable to delete {middle} (must be forced) - image has dependent child images\n");
    assert!(said.contains(&want) && said.contains("remove top:1 first"), "{said}");
    for args in [&["rmi", &middle][..], &["rmi", "-f", &middle]] {
        let said = run(&mut place.command(args)).err();
        let want = format!("unable to delete {middle} (cannot be forced) - image has dependent child images");
        assert!(said.contains(&want), "{said}");
    }
    // Another name is no child.
    place.run(["tag", "middle", "other"]).ok();
    assert_eq!(place.run(["rmi", "other"]).ok(), "Untagged: other:latest");
    // Its name alone can be taken from it.
    place.run(["tag", "middle", "kept"]).ok();
    place.run(["rmi", "kept"]).ok();
    assert_eq!(place.run(["rmi", "--force", "base"]).ok().lines().next(), Some("Untagged: base:latest"));
    // In whatever order they are named.
    let said = place.run(["rmi", "middle", "top:1"]).ok();
    let lines: Vec<&str> = said.lines().map(|l| l.split(':').next().unwrap()).collect();
    assert_eq!(lines, ["Untagged", "Deleted", "Untagged", "Deleted"], "{said}");
    assert!(said.starts_with("Untagged: top:1\nDeleted: sha256:"), "{said}");
    assert_eq!(place.run(["images", "-q"]).ok(), "");
    place.verify();
}
