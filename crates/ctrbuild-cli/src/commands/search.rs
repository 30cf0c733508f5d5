//! `ctrbuild search`.

use super::build::usage;
use crate::args::{Global, ListFormat, SearchArgs};
use crate::{machine, table};
use ctrbuild::Error;
use ctrbuild::search::{self, SearchQuery};
use std::process::ExitCode;

/// Characters of a description in the table, as docker cuts it.
const WIDTH: usize = 45;

pub fn run(global: &Global, args: &SearchArgs) -> Result<ExitCode, Error> {
    let mut query =
        SearchQuery { term: args.term.clone(), limit: args.limit.into(), ..SearchQuery::default() };
    for filter in &args.filter {
        let wrong = || {
            usage(format!("invalid --filter {filter:?}"))
                .hint("stars=NUMBER, is-official=true|false or is-automated=true|false")
        };
        match filter.split_once('=') {
            Some(("stars", n)) => query.stars = Some(n.parse().map_err(|_| wrong())?),
            Some(("is-official", flag)) => query.official = Some(flag.parse().map_err(|_| wrong())?),
            Some(("is-automated", flag)) => query.automated = Some(flag.parse().map_err(|_| wrong())?),
            _ => return Err(wrong()),
        }
    }
    let session = machine::session(global)?;
    super::wait_or_exit(async {
        if args.list_tags {
            let (name, tags) = search::tags(&session, &args.term, query.limit).await?;
            let name = name.familiar_name();
            if args.format == ListFormat::Json {
                println!("{}", serde_json::json!({"name": name, "tags": tags}));
                return Ok(ExitCode::SUCCESS);
            }
            let mut rows = vec![vec!["NAME".to_string(), "TAG".into()]];
            rows.extend(tags.into_iter().map(|tag| vec![name.clone(), tag]));
            print!("{}", table::render(&rows));
            return Ok(ExitCode::SUCCESS);
        }
        let found = search::search(&session, &query).await?;
        if let Some(note) = &found.note {
            eprintln!("note: {}", diagnostic::sanitize(note));
        }
        if args.format == ListFormat::Json {
            for hit in &found.hits {
                let value = serde_json::json!({"name": hit.name, "description": hit.description, "stars": hit.stars,
                    "official": hit.official, "automated": hit.automated});
                println!("{}", diagnostic::escape_json(&value.to_string()));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let mut rows =
            vec![["NAME", "DESCRIPTION", "STARS", "OFFICIAL", "AUTOMATED"].map(str::to_string).to_vec()];
        let mark = |flag: Option<bool>| if flag == Some(true) { "[OK]".to_string() } else { String::new() };
        for hit in &found.hits {
            // One line, and nothing that a terminal obeys.
            let words: Vec<&str> = hit.description.split_whitespace().collect();
            let text = diagnostic::sanitize(&words.join(" ")).into_owned();
            rows.push(vec![
                diagnostic::sanitize(&hit.name).into_owned(),
                if args.no_trunc { text } else { table::cut(&text, WIDTH) },
                hit.stars.map(|n| n.to_string()).unwrap_or_default(),
                mark(hit.official),
                mark(hit.automated),
            ]);
        }
        print!("{}", table::render(&rows));
        Ok(ExitCode::SUCCESS)
    })
}
