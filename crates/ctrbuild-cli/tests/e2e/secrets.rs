//! A secret is seen by its step and by nothing else: not the store, not the image, not the log.

use crate::place::{Place, run};
use std::fs;
use std::path::Path;

const SECRET: &str = "correct-horse-battery-staple";

/// The secret as it is, in base64 at each of three offsets, and in hexadecimal.
fn forms() -> Vec<Vec<u8>> {
    let mut all = vec![SECRET.as_bytes().to_vec()];
    all.push(SECRET.bytes().flat_map(|b| format!("{b:02x}").into_bytes()).collect());
    // base64 of whole groups of three bytes, which stay the same wherever the text begins in a group.
    all.extend((0..3).map(|skip| base64(&SECRET.as_bytes()[skip..skip + 24])));
    all
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks_exact(3)
        .flat_map(|c| {
            let n = u32::from_be_bytes([0, c[0], c[1], c[2]]);
            [18, 12, 6, 0].map(|shift| DIGITS[(n >> shift) as usize & 63])
        })
        .collect()
}

/// Files below `folder` that hold the secret in some form.
fn found(folder: &Path, forms: &[Vec<u8>], out: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let kind = path.symlink_metadata().unwrap().file_type();
        if kind.is_dir() {
            found(&path, forms, out);
        } else if kind.is_file() {
            let bytes = fs::read(&path).unwrap();
            let name = path.file_name().unwrap().as_encoded_bytes();
            let holds = |text: &[u8], form: &Vec<u8>| text.windows(form.len()).any(|w| w == form);
            if forms.iter().any(|f| holds(&bytes, f) || holds(name, f)) {
                out.push(path.display().to_string());
            }
        }
    }
}

#[test]
fn base64_is_base64() {
    assert_eq!(base64(b"abcdef"), b"YWJjZGVm");
}

#[test]
fn a_secret_is_nowhere_in_the_store() {
    let Some(place) = Place::with_base() else { return };
    fs::write(place.path("home/secret"), SECRET).unwrap();
    let context = place.recipe(
        "FROM base\nRUN --mount=type=secret,id=file wc -c < /run/secrets/file > /size\n\
         RUN --mount=type=secret,id=variable,env=TOKEN test -n \"$TOKEN\" && echo ${#TOKEN} >> /size\n\
         RUN test ! -e /run/secrets/file\n",
    );
    let mut build =
        place.command(["build", "--progress=plain", "-t", "app", "--secret", "id=file,src=home/secret"]);
    build.args(["--secret", "id=variable,env=FROM_HERE"]).env("FROM_HERE", SECRET);
    let built = run(build.args(["-o", "type=oci,dest=app.tar", "--load"]).arg(&context));
    let said = built.stderr.clone();
    built.ok();
    let mut places = Vec::new();
    found(&place.root, &forms(), &mut places);
    assert!(places.is_empty(), "{places:?}");
    assert!(!said.contains(SECRET), "{said}");
    let archive = fs::read(place.path("app.tar")).unwrap();
    assert!(forms().iter().all(|f| !archive.windows(f.len()).any(|w| w == f)));
    // The step did see it.
    place.run(["build", "-o", "out", "--secret", "id=file,src=home/secret", &context]).code.unwrap();
    let out = place.recipe("FROM app\nRUN test \"$(cat /size | tr '\\n' ' ')\" = \"28 28 \"\n");
    place.run(["build", "-q", &out]).ok();
}

#[test]
fn a_secret_that_is_printed_is_masked() {
    let Some(place) = Place::with_base() else { return };
    fs::write(place.path("home/secret"), SECRET).unwrap();
    let context =
        place.recipe("FROM base\nRUN --mount=type=secret,id=file cat /run/secrets/file; echo; exit 3\n");
    let said =
        place.run(["build", "--progress=plain", "--secret", "id=file,src=home/secret", &context]).err();
    assert!(!said.contains(SECRET), "{said}");
    let mut places = Vec::new();
    found(&place.root, &forms(), &mut places);
    assert!(places.is_empty(), "{places:?}");
}

#[test]
fn a_required_secret_that_is_not_given_is_an_error() {
    let Some(place) = Place::with_base() else { return };
    let context = place.recipe("FROM base\nRUN --mount=type=secret,id=absent,required=true true\n");
    let said = place.run(["build", &context]).err();
    assert!(said.contains("absent") && said.contains("   2 | >>> RUN"), "{said}");
}
