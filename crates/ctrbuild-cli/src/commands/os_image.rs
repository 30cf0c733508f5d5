//! `ctrbuild os-image`: base images from a distribution's packages.

use crate::args::{Global, InstallArgs, OsImage};
use crate::{machine, table};
use ctrbuild::{Error, ErrorKind, images, os_image};
use debian::Event;
use diagnostic::sanitize;
use oci::Platform;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub fn run(global: &Global, command: &OsImage) -> Result<ExitCode, Error> {
    match command {
        OsImage::Install(args) => install(global, args),
        OsImage::Ls => list(global),
    }
}

fn install(global: &Global, args: &InstallArgs) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let session = machine::session(global)?;
    let platform = match &args.platform {
        None => session.host.clone(),
        Some(p) => Platform::parse(p, &session.host)
            .map_err(|e| Error::new(ErrorKind::Recipe, e.to_string()).hint(e.hint()))?,
    };
    let request = os_image::InstallRequest {
        name: images::parse_name(&args.name)?,
        platform,
        mirror: args.mirror.clone(),
        include: args.include.clone(),
        keyring: args.keyring.clone(),
        ignore_expiry: args.ignore_expiry,
        force: args.force,
        proxies: debian::Proxies::from_vars(std::env::vars()),
        now: SystemTime::now(),
    };
    super::wait_or_exit(async {
        match os_image::install(&session, request, Arc::new(show)).await? {
            None => eprintln!("{} is already installed (use --force)", args.name),
            Some(done) => {
                eprintln!("{} {} with {} packages", done.name.familiar(), done.version, done.packages);
                println!("{}", done.digest);
                let s = started.elapsed().as_secs();
                eprintln!("installed in {}h {}m {}s", s / 3600, s / 60 % 60, s % 60);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn show(event: Event) {
    match event {
        Event::Release { url, codename, version, .. } => {
            let version = version.unwrap_or_default();
            eprintln!(
                "{}: {} {} (signature verified)",
                sanitize(&url),
                sanitize(&codename),
                sanitize(&version)
            );
        }
        Event::Resolved { packages, bytes } => eprintln!("{packages} packages, {}", table::size(bytes)),
        Event::Step { what } => eprintln!("{}", sanitize(&what)),
        _ => {}
    }
}

fn list(global: &Global) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut rows = vec![["NAME", "VERSION", "PLATFORM", "IMAGE ID", "SIZE"].map(str::to_string).to_vec()];
    for image in images::list(&session.store)?.iter().filter(|i| i.kind == images::KIND_BASE) {
        let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
        let (name, tag) = match &image.reference {
            Some(r) => (r.familiar_name(), r.tag().unwrap_or("<none>").to_string()),
            None => ("<none>".into(), "<none>".into()),
        };
        rows.push(vec![name, tag, platforms.join(","), image.id.short(), table::size(image.size)]);
    }
    print!("{}", table::render(&rows));
    Ok(ExitCode::SUCCESS)
}
