//! Which image was made from which, and what `images` tells in other forms than its usual one.

use crate::place::{Place, run};
use serde_json::Value;

#[test]
fn parents_kinds_and_publishers() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe(
        "FROM base\nLABEL org.opencontainers.image.vendor=Acme org.opencontainers.image.version=1.2\nRUN echo x > /x\n",
    );
    place.run(["build", "-q", "-t", "app:1", &context]).ok();
    let context = place.context_in("other", &[("Dockerfile", "FROM app:1\nENV A=b\n")]);
    place.run(["build", "-q", "-t", "app:2", &context]).ok();
    let c = place.run(["from", "app:2"]).ok();
    place.run(["run", &c, "touch", "/y"]).ok();
    place.run(["commit", "--publisher", "Me", "--author", "you", "--rm", &c, "by-hand"]).ok();
    place.run(["tag", "app:1", "same:1"]).ok();

    let listed = place.run(["images", "--format", "json"]).ok();
    let all: Vec<Value> = listed.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let find = |name: &str, tag: &str| {
        all.iter()
            .find(|i| i["repository"] == name && i["tag"] == tag)
            .unwrap_or_else(|| panic!("{name}\n{listed}"))
    };
    let (base, one, two, hand) =
        (find("base", "latest"), find("app", "1"), find("app", "2"), find("by-hand", "latest"));
    assert!(base["parent"].is_null());
    assert_eq!(one["parent"], base["id"]);
    assert_eq!(two["parent"], one["id"]);
    assert_eq!(hand["parent"], two["id"]);
    assert_eq!((&one["publisher"], &one["version"]), (&"Acme".into(), &"1.2".into()));
    assert_eq!((&hand["publisher"], &hand["isOSImage"]), (&"Me".into(), &false.into()));
    assert_eq!(one["sharedSize"], one["size"], "app:2 has all of it");
    assert!(hand["uniqueSize"].as_u64().unwrap() > 0, "{hand}");

    let heading = place.run(["images"]).ok();
    let words = |line: &str| -> Vec<String> {
        line.split("   ").map(|w| w.trim().to_string()).filter(|w| !w.is_empty()).collect()
    };
    assert_eq!(
        words(heading.lines().next().unwrap()),
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE", "KIND"]
    );
    let verbose = place.run(["images", "-v"]).ok();
    assert!(
        verbose.lines().next().unwrap().contains("PARENT") && verbose.contains("UNIQUE SIZE"),
        "{verbose}"
    );
    let parents = place.run([
        "images",
        "--no-trunc",
        "--format",
        "{{.Repository}}:{{.Tag}} {{.Parent}} {{.Kind}}",
        "app",
    ]);
    let parents = parents.ok();
    let line = format!("app:2 {} derived", one["id"].as_str().unwrap());
    assert!(parents.lines().any(|l| l == line), "{line}\n{parents}");
    let table = place.run(["images", "--format", "table {{.ID}}\\t{{.Parent}}", "base"]).ok();
    assert!(table.starts_with("IMAGE ID"), "{table}");
    for bad in ["{{.Nothing}}", "yaml"] {
        assert_eq!(place.run(["images", "--format", bad]).code, Some(1));
    }
    assert_eq!(place.run(["images", "-q", "--filter", "kind=base"]).ok(), "");
    assert_eq!(place.run(["images", "-q", "--filter", "dangling=1"]).ok(), "");
    let like = |wanted: &str| place.run(["images", "-q", "--filter", wanted]).ok().lines().count();
    assert_eq!([like("reference=app"), like("reference=*:1"), like("reference=app*")], [2, 2, 2]);
    assert_eq!([like("reference=ap?"), like("reference=pp*"), like("reference=nobody")], [2, 0, 0]);
    for bad in ["kind=other", "dangling=maybe", "dangling=", "reference=[a"] {
        assert_eq!(place.run(["images", "--filter", bad]).code, Some(1), "{bad}");
    }

    let tree = place.run(["image", "tree"]).ok();
    let names: Vec<String> = tree.lines().map(|l| words(l)[0].clone()).collect();
    assert_eq!(
        names,
        ["IMAGE", "base:latest", "└── app:1, same:1", "└── app:2", "└── by-hand:latest"],
        "{tree}"
    );
    let part = place.run(["image", "tree", "app:2"]).ok();
    assert_eq!(part.lines().count(), 3, "{part}");
    let json: Value = serde_json::from_str(&place.run(["image", "tree", "--format=json"]).ok()).unwrap();
    assert_eq!(json["children"][0]["children"][0]["names"][0], "app:2");
    assert_eq!(place.run(["image", "tree", "nobody"]).code, Some(1));
    // As before: `image` alone lists.
    let ids = |text: String| -> Vec<Vec<String>> { text.lines().map(|l| words(l)[..3].to_vec()).collect() };
    assert_eq!(ids(place.run(["image"]).ok()), ids(place.run(["images"]).ok()));
    assert_eq!(
        run(&mut place.command(["image", "ls", "-q", "app"])).ok(),
        place.run(["images", "-q", "app"]).ok()
    );
}
