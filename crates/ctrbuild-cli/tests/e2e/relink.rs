//! A copy survives a change of its base without being redone, where nothing of the base matters to it.

use crate::place::Place;

/// The last layer of an image.
fn last_layer(place: &Place, name: &str) -> String {
    let image = place.inspect(name);
    let layers = image["RootFS"]["Layers"].as_array().unwrap();
    layers.last().unwrap().as_str().unwrap().to_string()
}

fn build(place: &Place, tag: &str, before: &str, copy: &str) -> String {
    let recipe = format!("FROM base\nRUN {before}\n{copy}\n");
    let context = place.context(&[("Dockerfile", &recipe), ("app/a", "a\n"), ("app/sub/b", "b\n")]);
    place.run(["build", "-t", tag, &context]).ok();
    last_layer(place, tag)
}

#[test]
fn a_copy_to_a_new_folder_is_the_same_layer_on_another_base() {
    let Some(place) = Place::with_base() else { return };
    let one = build(&place, "one", "echo 1 > /etc/one", "COPY app /srv/app/");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    // Made anew, the new folders would have another time, and the layer another digest.
    assert_eq!(build(&place, "two", "echo 2 > /etc/two", "COPY app /srv/app/"), one);
    // An existing folder with another owner shows in the layer, so it is not the same.
    assert_ne!(build(&place, "three", "mkdir -p /srv && chown 5:5 /srv", "COPY app /srv/app/"), one);
}

#[test]
fn what_the_base_has_in_the_way_is_seen() {
    let Some(place) = Place::with_base() else { return };
    build(&place, "plain", "mkdir -p /srv/app", "COPY app /srv/app/");
    // A symlink on the way: the files go where it leads.
    build(&place, "linked", "mkdir -p /data && mkdir /srv && ln -s /data /srv/app", "COPY app /srv/app/");
    let context = place.recipe("FROM linked\nRUN cat /data/a /data/sub/b && test -L /srv/app\n");
    place.run(["build", &context]).ok();
    // A file that is replaced must be in the layer, whatever an earlier base had.
    build(&place, "replaced", "mkdir -p /srv/app && echo old > /srv/app/a", "COPY app /srv/app/");
    let context = place.recipe("FROM replaced\nRUN grep -x a /srv/app/a\n");
    place.run(["build", &context]).ok();
    build(&place, "equal", "mkdir -p /srv/app && echo a > /srv/app/a", "COPY app /srv/app/");
    build(&place, "gone", "mkdir -p /srv/app && echo other > /srv/app/z", "COPY app /srv/app/");
    let context = place.recipe("FROM gone\nRUN grep -x a /srv/app/a && grep -x other /srv/app/z\n");
    place.run(["build", &context]).ok();
}
