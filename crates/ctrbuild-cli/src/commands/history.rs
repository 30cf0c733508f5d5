//! `ctrbuild history`.

use crate::args::{Global, HistoryArgs, ListFormat};
use crate::{machine, table};
use ctrbuild::Error;
use diagnostic::sanitize;
use std::process::ExitCode;

pub fn run(global: &Global, args: &HistoryArgs) -> Result<ExitCode, Error> {
    let session = machine::session(global)?;
    let (id, lines) = ctrbuild::images::history(&session, &args.name)?;
    if args.format == ListFormat::Json {
        for (i, l) in lines.iter().enumerate() {
            let value = serde_json::json!({"id": if i == 0 { id.to_string() } else { "<missing>".into() },
                "created": l.created, "createdBy": l.created_by, "size": l.size, "comment": l.comment});
            println!("{}", diagnostic::escape_json(&value.to_string()));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let name = |i: usize| match (i, args.no_trunc) {
        (0, true) => id.to_string(),
        (0, false) => id.short(),
        _ => "<missing>".into(),
    };
    if args.quiet {
        (0..lines.len()).for_each(|i| println!("{}", name(i)));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = vec![["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"].map(str::to_string).to_vec()];
    let now = table::now();
    for (i, l) in lines.iter().enumerate() {
        let by = sanitize(&l.created_by).into_owned();
        rows.push(vec![
            name(i),
            table::ago(l.created.as_deref(), now),
            if args.no_trunc { by } else { table::cut(&by, 45) },
            table::size(l.size),
            sanitize(&l.comment).into_owned(),
        ]);
    }
    print!("{}", table::render(&rows));
    Ok(ExitCode::SUCCESS)
}
