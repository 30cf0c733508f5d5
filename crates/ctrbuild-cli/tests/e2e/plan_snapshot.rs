//! `ctrbuild plan --snapshot`: a reviewed plan, made without a network.

use crate::place::{Place, run};

const RECIPE: &str = "ARG V=1.22\nFROM golang:$V AS build\nWORKDIR /src\nENV A=1\nCOPY --exclude=*.md go.* ./\n\
     RUN --mount=type=cache,target=/root/.cache go build\nFROM nobody.invalid/unused AS unused\nFROM scratch\n\
     COPY --from=build --chown=1:2 /src/a /a\nEXPOSE 80\nENTRYPOINT [\"/a\"]\n";

#[test]
fn snapshots_are_made_compared_and_renewed() {
    let place = Place::bare();
    let context = place.context(&[("Dockerfile", RECIPE)]);
    let plan = |args: &[&str]| {
        let args: Vec<&str> = ["plan", "--snapshot", &context].iter().chain(args).copied().collect();
        run(&mut place.command(args))
    };
    let missing = plan(&["--check"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("Dockerfile.plan.snap is missing"), "{}", missing.stderr);
    assert_eq!(plan(&[]).code, Some(0));
    assert_eq!((plan(&["--check"]).code, plan(&[]).code), (Some(0), Some(0)));
    let snap = std::fs::read_to_string(place.path("context/Dockerfile.plan.snap")).unwrap();
    insta::with_settings!({snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("plan-snapshot", snap);
    });

    // A comment changes nothing, a variable does.
    std::fs::write(place.path("context/Dockerfile"), format!("# why\n\n{RECIPE}")).unwrap();
    assert_eq!(plan(&["--check"]).code, Some(0));
    std::fs::write(place.path("context/Dockerfile"), RECIPE.replace("A=1", "A=2")).unwrap();
    for args in [&["--check"][..], &[]] {
        let drift = plan(args);
        assert_eq!(drift.code, Some(1));
        assert!(drift.stdout.contains("-     env A=1\n+     env A=2\n"), "{}", drift.stdout);
        assert!(drift.stderr.contains("has drifted"), "{}", drift.stderr);
    }
    assert_eq!((plan(&["--accept"]).code, plan(&["--check"]).code), (Some(0), Some(0)));
    assert_eq!(plan(&["--accept", "--check"]).code, Some(2));

    // What it is made for is named; other platforms and targets are other plans.
    assert_eq!(plan(&["--check", "--platform", "linux/arm64"]).code, Some(1));
    assert_eq!(plan(&["--check", "--target", "build"]).code, Some(1));
    let wrong = run(&mut place.command(["plan", "--accept", &context]));
    assert_eq!(wrong.code, Some(2), "--accept is for snapshots");
}

#[test]
fn a_wrong_recipe_has_no_snapshot() {
    let place = Place::bare();
    let context = place.recipe("FROM scratch\nCOPY --from=nope.invalid/x /a /b\nRUNN x\n");
    let plan = run(&mut place.command(["plan", "--snapshot", "--accept", &context]));
    assert_eq!(plan.code, Some(1));
    assert!(plan.stderr.contains("unknown instruction: RUNN"), "{}", plan.stderr);
    assert!(!place.path("context/Dockerfile.plan.snap").exists());
}
