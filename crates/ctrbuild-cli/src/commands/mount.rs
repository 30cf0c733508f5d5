//! `ctrbuild mount`, `ctrbuild umount`: a container's files in a folder.

use super::working;
use crate::args::{Global, MountArgs, UmountArgs};
use crate::{machine, render, table};
use ctrbuild::{Error, containers};
use std::process::ExitCode;

pub fn mount(global: &Global, args: &MountArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let Some(name) = &args.container else {
        let all = containers::list(&session.store)?;
        let rows: Vec<Vec<String>> =
            all.into_iter().filter_map(|c| Some(vec![c.name, c.mounted?.display().to_string()])).collect();
        print!("{}", table::render(&rows));
        return Ok(ExitCode::SUCCESS);
    };
    let setup = working::setup(&session, "default", "/".into())?;
    let observer = working::observer();
    if let Some((program, rest)) = args.command.split_first() {
        return super::wait_or_exit(async {
            let mut container = containers::open_unmounted(&session, name, &*observer).await?;
            let mut command = std::process::Command::new(program);
            command.args(rest);
            let code = containers::run_beside(&session, &setup, &*observer, &mut container, command).await?;
            Ok(ExitCode::from(u8::try_from(code).unwrap_or(1)))
        });
    }
    super::wait_or_exit(async {
        let container = containers::open(&session, name, &*observer).await?;
        let folder = containers::mount(&session, &setup, &*observer, &container).await?;
        println!("{}", folder.display());
        Ok(ExitCode::SUCCESS)
    })
}

pub fn umount(global: &Global, args: &UmountArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let names = match args.all {
        false => args.containers.clone(),
        true => {
            let all = containers::list(&session.store)?;
            all.into_iter().filter(|c| c.mounted.is_some()).map(|c| c.id).collect()
        }
    };
    let observer = working::observer();
    super::wait_or_exit(async {
        let mut code = ExitCode::SUCCESS;
        for name in &names {
            let done = async {
                let mut container = containers::open(&session, name, &*observer).await?;
                containers::umount(&session, &mut container).await?;
                Ok::<_, Error>(container.id().to_string())
            };
            match done.await {
                Ok(id) => println!("{id}"),
                Err(e) => {
                    render::failure(&e, None);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    })
}
