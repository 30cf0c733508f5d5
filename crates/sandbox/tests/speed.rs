//! How long a step takes from its start to its end. Run with `cargo test -p sandbox --release --test speed -- --ignored --nocapture`.

mod common;

use std::time::Instant;

use common::image;
use sandbox::SandboxSpec;

#[test]
#[ignore = "a measurement"]
fn start_to_exit_of_true() {
    let Some(image) = image() else { return };
    let mut times: Vec<_> = (0..200)
        .map(|_| {
            let mount = image.mount();
            let start = Instant::now();
            let spec = SandboxSpec::new(mount, ["/bin/true"]);
            assert!(image.run_spec(spec).unwrap().0.status.success());
            start.elapsed()
        })
        .collect();
    times.sort();
    eprintln!("median {:?}, fastest {:?}, 90 % below {:?}", times[100], times[0], times[180]);
}
