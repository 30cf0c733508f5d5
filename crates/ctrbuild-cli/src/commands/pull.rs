//! `ctrbuild pull`.

use crate::args::{Global, PullArgs};
use crate::machine;
use ctrbuild::{Error, ErrorKind, images};
use oci::Platform;
use std::process::ExitCode;
use std::sync::Arc;

/// Lines as `docker pull` prints them.
pub struct Lines;

impl registry::Progress for Lines {
    fn event(&self, event: registry::Event<'_>) {
        use registry::Event::*;
        let (blob, text) = match event {
            Present { blob } => (blob, "Already exists"),
            Done { blob } => (blob, "Pull complete"),
            Retrying { blob } => (blob, "Retrying"),
            _ => return,
        };
        eprintln!("{}: {text}", crate::progress::short(&blob.digest));
    }
}

pub fn run(global: &Global, args: &PullArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let reference = images::parse_name(&args.name)?;
    let platform = match &args.platform {
        None => session.host.clone(),
        Some(p) => Platform::parse(p, &session.host)
            .map_err(|e| Error::new(ErrorKind::Recipe, e.to_string()).hint(e.hint()))?,
    };
    if !args.quiet {
        if !args.name.contains('@') && args.name.rsplit('/').next().is_some_and(|last| !last.contains(':')) {
            eprintln!("Using default tag: latest");
        }
        eprintln!("{}: Pulling from {}", reference.tag().unwrap_or("latest"), reference.path());
    }
    let progress: Arc<dyn registry::Progress> =
        if args.quiet { Arc::new(registry::Silent) } else { Arc::new(Lines) };
    super::wait_or_exit(async {
        let pulled = images::pull(&session, &reference, &platform, progress).await?;
        if let Some(choice) = ctrbuild::choice(&platform, &pulled.image.config.value)
            && !args.quiet
        {
            eprintln!("note: {}", diagnostic::sanitize(&choice));
        }
        if !args.quiet {
            // Of what came, not of what the name leads to by now: another process may have removed or moved it.
            eprintln!("Digest: {}", pulled.top().digest);
        }
        println!("{reference}");
        Ok(ExitCode::SUCCESS)
    })
}
