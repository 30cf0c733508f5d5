//! `cargo xtask dist` and `cargo xtask run EXAMPLE`: the static program, and its main job.

use crate::machine::{self, command, output, root, target};
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Stdio;

/// The base image of the examples.
const BASE: &str = "debian:bookworm";

/// The triple of the compiler's host.
fn host() -> Result<String> {
    let version = output(&mut command(&["rustc", "-vV"]))?;
    version.lines().find_map(|l| l.strip_prefix("host: ")).map(str::to_string).context("rustc names no host")
}

/// Build the static release program; its path.
pub fn build() -> Result<PathBuf> {
    let host = host()?;
    // With `--target` the flags are for what ships only: procedural macros can't be linked statically.
    let mut cargo = command(&["cargo", "build", "--release", "--package", "ctrbuild-cli", "--target", &host]);
    let name = format!("CARGO_TARGET_{}_RUSTFLAGS", host.to_uppercase().replace('-', "_"));
    // RUSTFLAGS would win over the variable above.
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    cargo.env_remove("RUSTFLAGS").env(name, format!("{flags} -C target-feature=+crt-static").trim());
    if !machine::run(&mut cargo)? {
        bail!("ctrbuild does not build");
    }
    let path = target().join(host).join("release/ctrbuild");
    if dynamic(&std::fs::read(&path).with_context(|| path.display().to_string())?) {
        bail!("{} is not static: it asks for a dynamic loader", path.display());
    }
    Ok(path)
}

/// Whether a 64-bit little-endian ELF file asks for an interpreter (PT_INTERP, ELF specification 1.2).
fn dynamic(elf: &[u8]) -> bool {
    let read = |at: usize, n: usize| {
        elf.get(at..at + n).map(|b| b.iter().rev().fold(0usize, |sum, byte| (sum << 8) | usize::from(*byte)))
    };
    let (Some(table), Some(size), Some(count)) = (read(32, 8), read(54, 2), read(56, 2)) else { return true };
    (0..count).any(|i| read(table + i * size, 4).is_none_or(|kind| kind == 3))
}

/// Build an example with the static program; the base is made from a Debian mirror if there is none.
pub fn run(example: &str) -> Result<bool> {
    let folder = root().join("examples").join(example);
    if !folder.join("Dockerfile").is_file() {
        let names = output(&mut command(&["ls", "examples"]))?;
        bail!("there is no example {example}: {}", names.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    let ctrbuild = build()?;
    let ctrbuild = ctrbuild.to_string_lossy();
    let present =
        command(&[&ctrbuild, "inspect", BASE]).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    if !present.success() {
        eprintln!("{BASE} is not in the store: making it from Debian's packages");
        if !machine::run(&mut command(&[&ctrbuild, "os-image", "install", BASE]))? {
            return Ok(false);
        }
    }
    let folder = format!("examples/{example}");
    if !machine::run(&mut command(&[&ctrbuild, "build", "-t", example, &folder]))? {
        return Ok(false);
    }
    machine::run(&mut command(&[&ctrbuild, "history", example]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_elf_is_not_static() {
        assert!(dynamic(b""));
        assert!(dynamic(&[0; 20]));
        let mut elf = vec![0u8; 64 + 56];
        (elf[32], elf[54], elf[56]) = (64, 56, 1);
        elf[64] = 1;
        assert!(!dynamic(&elf));
        elf[64] = 3;
        assert!(dynamic(&elf));
    }
}
