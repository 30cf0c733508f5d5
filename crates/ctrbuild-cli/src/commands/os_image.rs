//! `ctrbuild os-image`: base images, from a distribution's packages, a registry or an archive.

use super::rmi;
use crate::args::{
    FindArgs, Global, InstallArgs, ListFormat, OsImage, OsImportArgs, OsListArgs, OsRemoveArgs, OsSaveArgs,
};
use crate::{machine, render, table};
use ctrbuild::os_source::{self, FindRequest, Source};
use ctrbuild::{Destination, Error, ErrorKind, images, os_image};
use debian::Event;
use diagnostic::sanitize;
use oci::Platform;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

pub fn run(global: &Global, command: &OsImage) -> Result<ExitCode, Error> {
    match command {
        OsImage::Find(args) => find(global, args),
        OsImage::Install(args) => install(global, args),
        OsImage::Ls(args) => list(global, args),
        OsImage::Rm(args) => remove(global, args),
        OsImage::Save(args) => save(global, args),
        OsImage::Import(args) => import(global, args),
    }
}

fn install(global: &Global, args: &InstallArgs) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let session = machine::session(global)?;
    let name = images::parse_name(&args.name)?;
    let platform = match &args.platform {
        // Nothing else has these names.
        None if name.path().starts_with("windows/") => Platform::new("windows", "amd64"),
        None => session.host.clone(),
        Some(p) => Platform::parse(p, &session.host)
            .map_err(|e| Error::new(ErrorKind::Recipe, e.to_string()).hint(e.hint()))?,
    };
    let request = os_image::InstallRequest {
        name,
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
        let done = match os_image::is_made_here(&request.name) {
            true => os_image::install(&session, request, Arc::new(show)).await?,
            false => {
                let progress = Arc::new(super::pull::Lines);
                os_image::fetch(&session, &request.name, &request.platform, request.force, progress).await?
            }
        };
        match done {
            None => eprintln!("{} is already installed (use --force)", args.name),
            Some(done) => {
                match done.packages {
                    0 => eprintln!("{} {}", done.name.familiar(), sanitize(&done.version)),
                    n => eprintln!("{} {} with {n} packages", done.name.familiar(), done.version),
                }
                println!("{}", done.digest);
                took(started);
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn took(started: Instant) {
    let s = started.elapsed().as_secs();
    eprintln!("installed in {}h {}m {}s", s / 3600, s / 60 % 60, s % 60);
}

fn find(global: &Global, args: &FindArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut sources = args.source.iter().map(|s| Source::parse(s)).collect::<Result<Vec<_>, _>>()?;
    if sources.is_empty() {
        let mirror = args.mirror.clone().unwrap_or_else(|| debian::DEFAULT_MIRROR.to_string());
        sources.push(Source::Debian(mirror.trim_end_matches('/').to_string()));
        for text in os_source::REPOSITORIES {
            let name = images::parse_name(text)?.name_only();
            sources.push(Source::Repository { name, always: false });
        }
    }
    let request = FindRequest {
        name: args.name.clone(),
        sources,
        keyring: args.keyring.clone(),
        proxies: debian::Proxies::from_vars(std::env::vars()),
        now: SystemTime::now(),
        limit: args.limit.into(),
    };
    super::wait_or_exit(async {
        let offer = os_source::find(&session, &request).await?;
        if args.format == ListFormat::Json {
            for a in &offer.images {
                let value = serde_json::json!({"name": a.name, "version": a.version, "platforms": a.platforms,
                    "source": a.source, "summary": a.summary});
                println!("{}", diagnostic::escape_json(&value.to_string()));
            }
        } else {
            let mut rows =
                vec![["NAME", "VERSION", "PLATFORM", "SOURCE", "SUMMARY"].map(str::to_string).to_vec()];
            for a in &offer.images {
                let cells = [&a.name, &a.version, &a.platforms.join(","), &a.source, &a.summary];
                rows.push(cells.map(|cell| sanitize(cell).into_owned()).to_vec());
            }
            print!("{}", table::render(&rows));
        }
        for (source, e) in &offer.failed {
            let message = format!("{source} can't be asked: {}", e.message);
            render::failure(&Error::world(message).maybe_hint(e.hint.clone()), None);
        }
        // What others offer is still worth something.
        Ok(if offer.failed.is_empty() || !offer.images.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    })
}

/// Base images are removed as such; others have commands of their own.
fn must_be_base(session: &ctrbuild::Session, name: &str, instead: &str) -> Result<(), Error> {
    match images::find(&session.store, name)?.refs.iter().any(|r| r.kind == images::KIND_BASE) {
        true => Ok(()),
        false => Err(Error::new(ErrorKind::NotFound, format!("{name} is no base image")).hint(format!(
            "`ctrbuild {instead}` is for other images; `ctrbuild os-image ls` lists base images"
        ))),
    }
}

fn remove(global: &Global, args: &OsRemoveArgs) -> Result<ExitCode, Error> {
    let mut names = args.names.clone();
    if names.is_empty() || names == ["-"] {
        if std::io::stdin().is_terminal() {
            return Err(
                super::build::usage("there is no name").hint("NAME:VERSION, or names on standard input")
            );
        }
        let lines = std::io::stdin().lines();
        names = lines
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::world(format!("can't read standard input: {e}")))?;
        names = names.iter().map(|n| n.trim().to_string()).filter(|n| !n.is_empty()).collect();
    }
    let session = machine::session(global)?;
    let mut code = ExitCode::SUCCESS;
    names.retain(|name| match must_be_base(&session, name, "rmi") {
        Ok(()) => true,
        Err(e) => {
            render::failure(&e, None);
            code = ExitCode::FAILURE;
            false
        }
    });
    let removed = rmi::remove(global, session, &names, args.force)?;
    Ok(if code == ExitCode::SUCCESS { removed } else { code })
}

fn save(global: &Global, args: &OsSaveArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    for name in &args.names {
        must_be_base(&session, name, "save")?;
    }
    let folder = args.output.as_os_str().as_encoded_bytes().ends_with(b"/") || args.output.is_dir();
    match folder {
        true => images::save_layout(&session, &args.names, &args.output, None)?,
        false => {
            images::save(&session, &args.names, &Destination::File(args.output.clone()), false, None)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn import(global: &Global, args: &OsImportArgs) -> Result<ExitCode, Error> {
    let started = Instant::now();
    let session = machine::session(global)?;
    let name = args.name.as_deref().map(images::parse_name).transpose()?;
    let source = match args.file.to_str() {
        Some("-") => images::LoadSource::Stream(Box::new(std::io::stdin())),
        _ => images::LoadSource::Path(&args.file),
    };
    let choice = args.index.as_deref().map(os_image::Choice::parse);
    let done = os_image::import(&session, source, name.as_ref(), choice.as_ref(), args.force)?;
    for name in &done.present {
        eprintln!("{} is already installed (use --force)", name.familiar());
    }
    for installed in &done.installed {
        eprintln!("{} {}", installed.name.familiar(), sanitize(&installed.version));
        println!("{}", installed.digest);
    }
    if !done.installed.is_empty() {
        took(started);
    }
    Ok(ExitCode::SUCCESS)
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

fn list(global: &Global, args: &OsListArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let mut rows = vec![["NAME", "VERSION", "PLATFORM", "IMAGE ID", "SIZE"].map(str::to_string).to_vec()];
    for image in images::list(&session.store)?.iter().filter(|i| i.kind == images::KIND_BASE) {
        let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
        let (name, tag) = super::images::names(image);
        if args.quiet {
            println!("{name}:{tag}");
        } else if args.format == ListFormat::Json {
            let value = serde_json::json!({"name": name, "version": tag, "publisher": image.publisher,
                "release": image.version, "isOSImage": true, "platforms": platforms, "id": image.id,
                "digest": image.digest, "size": image.size});
            println!("{}", diagnostic::escape_json(&value.to_string()));
        }
        rows.push(vec![name, tag, platforms.join(","), image.id.short(), table::size(image.size)]);
    }
    if !args.quiet && args.format == ListFormat::Table {
        print!("{}", table::render(&rows));
    }
    Ok(ExitCode::SUCCESS)
}
