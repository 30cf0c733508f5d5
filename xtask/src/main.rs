//! `cargo xtask`: the project's own chores, the same on every machine.
//!
//! Deliberately small and lean: it is built before anything else is, each time.
#![forbid(unsafe_code)]

mod bench;
mod bench_lint;
mod bench_scale;
mod bench_store;
mod check;
mod conformance;
mod corpus;
mod dist;
mod machine;
mod packages;
mod tidy;
mod torture_steps;
mod torture_store;

use anyhow::Result;
use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask COMMAND

  test                 everything that a change must pass; the last line counts it
  tidy                 floors of the crates, first lines, lengths, forbidden words
  conformance [RE]     the cases of ../shared/conformance, or those whose name matches
  corpus               the recipes of ../shared/corpus against BuildKit's parser
  codegen              write what is generated from grammar/instructions.toml
  bless                codegen, and accept new snapshots of all tests
  bench [WHAT..]       steps, cached, context, memory; Debian's buildah as peer
  bench lint           lint and fmt of ../shared/corpus; hadolint as peer
  bench store [WHAT..] unpack, fetch, commit, export, scale, memory; tar, gzip, zstd, openssl, buildah as peers
  torture kills        builders ended at 300 random moments, in each of several ways
  torture store [WHAT] faults that the store must outlive, whole: kills, disk, damage, crowd, power, network, signals
  torture kernel [CG]  steps in a virtual machine with Debian's kernel; CG: v2, v1, hybrid, none
  fuzz [TARGET [SECS]] run fuzz targets (cargo-fuzz and a nightly compiler needed)
  dist                 the static release binary of this machine's kind
  run EXAMPLE          dist, a Debian base if there is none, and examples/EXAMPLE
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[&str]) -> Result<ExitCode> {
    let passed = |ok: bool| if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    match args {
        ["test"] => check::test().map(passed),
        ["tidy"] => tidy::run().map(|t| passed(t.failed == 0)),
        ["conformance"] => conformance::run(None).map(|t| passed(t.failed == 0)),
        ["conformance", pattern] => conformance::run(Some(pattern)).map(|t| passed(t.failed == 0)),
        ["corpus"] => corpus::run().map(|t| passed(t.failed == 0)),
        ["codegen"] => check::codegen().map(passed),
        ["bless"] => check::bless().map(passed),
        ["bench", "lint"] => bench_lint::run_all().map(passed),
        ["bench", "store", what @ ..] => bench_store::run(what).map(passed),
        ["bench", what @ ..] => bench::run(what).map(passed),
        ["torture", "kills"] => torture_steps::kills().map(passed),
        ["torture", "store", parts @ ..] => torture_store::run(parts).map(passed),
        ["torture", "kernel", layouts @ ..] => torture_steps::kernel(layouts).map(passed),
        ["fuzz", rest @ ..] => check::fuzz(rest).map(passed),
        ["dist"] => dist::build().map(|path| {
            println!("{}", path.display());
            ExitCode::SUCCESS
        }),
        ["run", example] => dist::run(example).map(passed),
        [] | ["help" | "-h" | "--help"] => {
            print!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprint!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
