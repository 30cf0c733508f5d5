//! `ctrbuild containers`.

use crate::args::{ContainersArgs, Global, ListFormat};
use crate::{machine, table};
use ctrbuild::{Error, containers};
use diagnostic::sanitize;
use std::process::ExitCode;

pub fn run(global: &Global, args: &ContainersArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let all = containers::list(&session.store)?;
    let short = |id: &str| if args.no_trunc { id.to_string() } else { id.chars().take(12).collect() };
    if args.json || args.format == ListFormat::Json {
        for c in &all {
            let value = serde_json::json!({
                "id": c.id,
                "name": c.name,
                "imageId": c.image_id,
                "imageName": c.image_name,
                "created": oci::rfc3339(i64::try_from(c.created).unwrap_or(0), 0),
                "running": c.running,
                "mountPoint": c.mounted,
            });
            println!("{}", diagnostic::escape_json(&value.to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.quiet {
        all.iter().for_each(|c| println!("{}", short(&c.id)));
        return Ok(ExitCode::SUCCESS);
    }
    let heading = ["CONTAINER ID", "IMAGE ID", "IMAGE NAME", "CONTAINER NAME"].map(str::to_string);
    let mut rows: Vec<Vec<String>> = Vec::new();
    if !args.noheading {
        rows.push(heading.to_vec());
    }
    for c in &all {
        let image = c.image_id.map(|id| short(&id.hex())).unwrap_or_default();
        rows.push(vec![short(&c.id), image, sanitize(&c.image_name).into_owned(), c.name.clone()]);
    }
    print!("{}", table::render(&rows));
    Ok(ExitCode::SUCCESS)
}
