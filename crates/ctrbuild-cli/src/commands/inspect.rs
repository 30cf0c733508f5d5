//! `ctrbuild inspect`.

use crate::args::Global;
use crate::machine;
use ctrbuild::{Error, images};
use std::process::ExitCode;

pub fn run(global: &Global, name: &str) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let found = images::find(&session.store, name)?;
    let names: Vec<&str> = found.refs.iter().map(|r| r.name.as_str()).collect();
    let mut all = Vec::new();
    for image in images::images_of(&session.store, &found.document)? {
        let config = &image.config.value;
        all.push(serde_json::json!({
            "Id": image.id(),
            "RepoTags": names,
            "Digest": image.manifest.digest,
            "Created": config.created,
            "Author": config.author,
            "Architecture": config.architecture,
            "Variant": config.variant,
            "Os": config.os,
            "OsVersion": config.os_version,
            "Size": images::image_size(&session.store, &image),
            "Config": config.config,
            "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
            "Manifest": image.manifest.value,
        }));
    }
    println!("{}", diagnostic::escape_json(&format!("{:#}", serde_json::Value::Array(all))));
    Ok(ExitCode::SUCCESS)
}
