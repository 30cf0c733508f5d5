//! `ctrbuild build --network`.

use crate::machine;
use ctrbuild::{Error, ErrorKind};
use plan::NetworkDefault;
use sandbox::NetworkStack;
use std::path::PathBuf;
use worker::DefaultNetwork;

/// What a plan is told, and what steps that ask for nothing get.
pub fn parse(text: &str) -> Result<(NetworkDefault, DefaultNetwork), Error> {
    Ok(match text {
        "default" | "" => (NetworkDefault::Default, DefaultNetwork::Host),
        "none" => (NetworkDefault::None, DefaultNetwork::Host),
        "host" => (NetworkDefault::Host, DefaultNetwork::Host),
        "isolated" => (NetworkDefault::Default, isolated(&[Program::Pasta, Program::Slirp4netns])?),
        "isolated:pasta" => (NetworkDefault::Default, isolated(&[Program::Pasta])?),
        "isolated:slirp4netns" => (NetworkDefault::Default, isolated(&[Program::Slirp4netns])?),
        other => {
            return Err(Error::new(ErrorKind::Recipe, format!("--network {other:?} is not known"))
                .hint("default, none, host, isolated, isolated:pasta or isolated:slirp4netns"));
        }
    })
}

/// A network stack in user mode.
#[derive(Clone, Copy)]
enum Program {
    Pasta,
    Slirp4netns,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Program::Pasta => "pasta",
            Program::Slirp4netns => "slirp4netns",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Program::Pasta => "passt",
            Program::Slirp4netns => "slirp4netns",
        }
    }

    fn find(self) -> Option<NetworkStack> {
        match self {
            // `pasta` is another name of `passt`, by which it makes its interface itself; it is not to.
            Program::Pasta => installed("passt").map(NetworkStack::Passt),
            Program::Slirp4netns => installed("slirp4netns").map(NetworkStack::Slirp4netns),
        }
    }
}

/// The first of these that is installed.
fn isolated(wanted: &[Program]) -> Result<DefaultNetwork, Error> {
    if let Some(stack) = wanted.iter().find_map(|program| program.find()) {
        return Ok(DefaultNetwork::Isolated(stack));
    }
    let list = |name: fn(Program) -> &'static str| {
        wanted.iter().map(|program| name(*program)).collect::<Vec<_>>().join(" or ")
    };
    Err(Error::world(format!("--network=isolated needs {}, which is not installed", list(Program::name)))
        .hint(format!("install it; on Debian it is in the package {}", list(Program::package))))
}

/// Whatever stack is installed.
pub fn any_stack() -> Option<NetworkStack> {
    [Program::Pasta, Program::Slirp4netns].iter().find_map(|program| program.find())
}

fn installed(name: &str) -> Option<PathBuf> {
    let folders = machine::path_folders().into_iter().chain(["/usr/bin", "/usr/sbin"].map(PathBuf::from));
    folders.map(|f| f.join(name)).find_map(|p| p.canonicalize().ok().filter(|p| p.is_file()))
}
