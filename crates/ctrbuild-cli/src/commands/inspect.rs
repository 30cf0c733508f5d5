//! `ctrbuild inspect`.

use super::inspect_format::Template;
use crate::args::{Global, InspectArgs};
use crate::{machine, render};
use ctrbuild::{Error, Session, images};
use serde_json::Value;
use std::process::ExitCode;

/// What is found is shown, also where another name is not.
pub fn run(global: &Global, args: &InspectArgs) -> Result<ExitCode, Error> {
    let template = match args.format.as_deref() {
        None | Some("json") => None,
        Some(text) => Some(Template::parse(text)?),
    };
    let session = machine::session(global)?;
    let mut code = ExitCode::SUCCESS;
    let mut all = Vec::new();
    for name in &args.names {
        match look(&session, name) {
            Ok(images) => all.extend(images),
            Err(e) => {
                render::failure(&e, None);
                code = ExitCode::FAILURE;
            }
        }
    }
    match template {
        Some(template) => {
            for image in &all {
                println!("{}", template.fill(image)?);
            }
        }
        None => println!("{}", diagnostic::escape_json(&format!("{:#}", Value::Array(all)))),
    }
    Ok(code)
}

fn look(session: &Session, name: &str) -> Result<Vec<Value>, Error> {
    let found = images::find(&session.store, name)?;
    let names: Vec<&str> = found.refs.iter().map(|r| r.name.as_str()).collect();
    let describe = |image: &oci::Image| {
        let config = &image.config.value;
        serde_json::json!({
            "Id": image.id(),
            "RepoTags": names,
            "Digest": image.manifest.digest,
            "Created": config.created,
            "Author": config.author,
            "Architecture": config.architecture,
            "Variant": config.variant,
            "Os": config.os,
            "OsVersion": config.os_version,
            "Size": images::image_size(&session.store, image),
            "Config": config.config,
            "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
            "Manifest": image.manifest.value,
        })
    };
    Ok(images::images_of(&session.store, &found.document)?.iter().map(describe).collect())
}
