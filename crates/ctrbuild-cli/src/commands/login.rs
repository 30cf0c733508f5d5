//! `ctrbuild login` and `ctrbuild logout`: credentials in docker's config.json, or its helpers.

use crate::args::{LoginArgs, LogoutArgs};
use crate::machine;
use ctrbuild::{Error, ErrorKind, chain};
use registry::{Credential, Kept, StaticCredentials};
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// The registry that docker means without a name.
const DEFAULT: &str = "docker.io";

pub fn login(args: &LoginArgs) -> Result<ExitCode, Error> {
    let domain = args.registry.as_deref().unwrap_or(DEFAULT);
    let user = match &args.username {
        Some(user) => user.clone(),
        None => ask("Username: ", Echo::On)?,
    };
    let password = match args.password_stdin {
        true => {
            let mut text = String::new();
            let read = std::io::stdin().lock().take(64 * 1024).read_to_string(&mut text);
            read.map_err(|e| Error::world(format!("can't read the password from standard input: {e}")))?;
            text.trim_end_matches(['\n', '\r']).to_string()
        }
        false => ask("Password: ", Echo::Off)?,
    };
    if user.is_empty() || password.is_empty() {
        return Err(Error::new(ErrorKind::Recipe, "the user name or the password is empty"));
    }
    let credential = Credential::Password { user, password };
    // Tried before it is kept: a wrong password is never stored.
    let tried = StaticCredentials(BTreeMap::from([(domain.to_string(), credential.clone())]));
    let client = registry::Client::new(machine::registry_config(Arc::new(tried)));
    super::wait_or_exit(async {
        client.ping(domain).await?;
        let (path, helpers) = places()?;
        let kept = registry::save_credential(&path, &helpers, domain, &credential)
            .map_err(|e| Error::world(chain(&e)).hint(e.hint()))?;
        if kept == Kept::File {
            eprintln!("note: the password is stored unencrypted in {}", path.display());
        }
        println!("Login Succeeded");
        Ok(ExitCode::SUCCESS)
    })
}

pub fn logout(args: &LogoutArgs) -> Result<ExitCode, Error> {
    let domain = args.registry.as_deref().unwrap_or(DEFAULT);
    let (path, helpers) = places()?;
    let was_there = registry::forget_credential(&path, &helpers, domain)
        .map_err(|e| Error::world(chain(&e)).hint(e.hint()))?;
    match was_there {
        true => println!("Removing login credentials for {domain}"),
        false => println!("Not logged in to {domain}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Docker's file, and where helpers are looked for.
fn places() -> Result<(PathBuf, Vec<PathBuf>), Error> {
    let path = machine::credential_file()
        .ok_or_else(|| Error::world("neither HOME nor DOCKER_CONFIG is set").hint("set one of them"))?;
    Ok((path, machine::path_folders()))
}

#[derive(Clone, Copy, PartialEq)]
enum Echo {
    On,
    Off,
}

/// Ask on the terminal.
fn ask(prompt: &str, echo: Echo) -> Result<String, Error> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::new(ErrorKind::Recipe, "standard input is no terminal")
            .hint("give the name with --username and the password with --password-stdin"));
    }
    eprint!("{prompt}");
    let _ = std::io::stderr().flush();
    let failed = |e: std::io::Error| Error::world(format!("can't read the answer: {e}"));
    let before = rustix::termios::tcgetattr(&stdin).map_err(|e| failed(e.into()))?;
    if echo == Echo::Off {
        let mut quiet = before.clone();
        quiet.local_modes.remove(rustix::termios::LocalModes::ECHO);
        rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &quiet)
            .map_err(|e| failed(e.into()))?;
    }
    let mut line = String::new();
    let read = stdin.lock().read_line(&mut line);
    if echo == Echo::Off {
        // Also after a failed read.
        let _ = rustix::termios::tcsetattr(&stdin, rustix::termios::OptionalActions::Flush, &before);
        eprintln!();
    }
    read.map_err(failed)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}
