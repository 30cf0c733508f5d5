//! Looking for images: on Docker Hub by its search, in other registries by their lists.

use crate::{Error, ErrorKind, Session};
use futures_util::stream::{self, StreamExt};
use oci::Reference;

/// Registries that are asked for the tags of several repositories at the same time.
const AT_ONCE: usize = 8;
/// Tags that a line names.
const NAMED: usize = 6;

/// What to look for.
#[derive(Debug, Clone, Default)]
pub struct SearchQuery {
    /// `nginx`; or `HOST[:PORT]/nginx`, `HOST[:PORT]/` in another registry.
    pub term: String,
    pub limit: usize,
    /// At least so many.
    pub stars: Option<u64>,
    pub official: Option<bool>,
    pub automated: Option<bool>,
}

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit {
    pub name: String,
    pub description: String,
    /// Only Docker Hub counts them, and knows the others.
    pub stars: Option<u64>,
    pub official: Option<bool>,
    pub automated: Option<bool>,
}

/// What a search came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub hits: Vec<Hit>,
    /// What the user should know besides.
    pub note: Option<String>,
}

/// The registry that a term names, and the rest. `None` is Docker Hub.
fn split(term: &str) -> (Option<&str>, &str) {
    let (first, rest) = term.split_once('/').unwrap_or((term, ""));
    let is_host = first.contains(['.', ':']) || first == "localhost";
    match is_host {
        true if first == oci::DEFAULT_DOMAIN || first == "index.docker.io" => (None, rest),
        true => (Some(first), rest),
        false => (None, term),
    }
}

/// Look for repositories.
pub async fn search(session: &Session, query: &SearchQuery) -> Result<Found, Error> {
    let client = (session.registry)()?;
    let (domain, term) = split(&query.term);
    let Some(domain) = domain else { return hub(&client, query, term).await };
    if query.stars.is_some() || query.official.is_some() || query.automated.is_some() {
        return Err(Error::new(
            ErrorKind::Recipe,
            format!("{domain} knows neither stars nor official images"),
        )
        .hint("leave out --filter, which is for Docker Hub"));
    }
    // Found out before anything is asked, with the same words as for any name.
    format!("{domain}/x").parse::<Reference>().map_err(|e| {
        Error::new(ErrorKind::Recipe, format!("invalid registry {domain:?}: {e}")).hint(e.hint())
    })?;
    let lower = term.to_ascii_lowercase();
    match client.catalog(domain).await {
        Ok(all) => {
            let mut names: Vec<String> = all.into_iter().filter(|n| n.contains(&lower)).collect();
            names.sort();
            names.dedup();
            names.truncate(query.limit);
            let asked = stream::iter(names).map(|name| tagged(&client, domain, name)).buffered(AT_ONCE);
            Ok(Found { hits: asked.collect().await, note: None })
        }
        Err(e) if is_unsupported(&e) => {
            let unsupported = || {
                Error::world(format!("{domain} does not list its repositories ({e})")).hint(format!(
                    "name one in full: ctrbuild search {domain}/NAME, or --list-tags {domain}/NAME"
                ))
            };
            if term.is_empty() || format!("{domain}/{term}").parse::<Reference>().is_err() {
                return Err(unsupported());
            }
            let hit = tagged(&client, domain, term.to_string()).await;
            match hit.description.is_empty() {
                true => Err(unsupported()),
                false => Ok(Found {
                    hits: vec![hit],
                    note: Some(format!(
                        "{domain} does not list its repositories; this is the one of that name"
                    )),
                }),
            }
        }
        Err(e) => Err(e.into()),
    }
}

async fn hub(client: &registry::Client, query: &SearchQuery, term: &str) -> Result<Found, Error> {
    if term.trim().is_empty() {
        return Err(Error::new(ErrorKind::Recipe, "there is nothing to search for")
            .hint("`ctrbuild search TERM`; `ctrbuild search HOST/` lists a registry"));
    }
    let matches = |flag: Option<bool>, is: bool| flag.is_none_or(|wanted| wanted == is);
    let hits = client.search_hub(term, query.limit).await?.into_iter();
    let hits = hits.filter(|h| {
        query.stars.is_none_or(|least| h.stars >= least)
            && matches(query.official, h.official)
            && matches(query.automated, h.automated)
    });
    let hits = hits.map(|h| Hit {
        name: h.name,
        description: h.description.unwrap_or_default(),
        stars: Some(h.stars),
        official: Some(h.official),
        automated: Some(h.automated),
    });
    Ok(Found { hits: hits.collect(), note: None })
}

/// Whether a registry has no catalog, or shows it to nobody like us.
fn is_unsupported(e: &registry::Error) -> bool {
    match e {
        registry::Error::Status { status, .. } => matches!(status.as_u16(), 400 | 404 | 405 | 501),
        registry::Error::Denied { .. }
        | registry::Error::NotFound { .. }
        | registry::Error::Protocol { .. } => true,
        _ => false,
    }
}

/// A repository with its tags in place of a description, which registries don't have.
async fn tagged(client: &registry::Client, domain: &str, name: String) -> Hit {
    let full = format!("{domain}/{name}");
    let mut tags = match full.parse::<Reference>() {
        Ok(reference) => client.tags(&reference).await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    tags.sort();
    let description = match tags.as_slice() {
        [] => String::new(),
        tags if tags.len() <= NAMED => format!("tags: {}", tags.join(", ")),
        tags => format!("tags: {}, … ({} in all)", tags[..NAMED].join(", "), tags.len()),
    };
    Hit { name: full, description, stars: None, official: None, automated: None }
}

/// The tags of a repository.
pub async fn tags(session: &Session, name: &str, limit: usize) -> Result<(Reference, Vec<String>), Error> {
    let reference = crate::images::parse_name(name)?;
    let mut tags = (session.registry)()?.tags(&reference).await?;
    tags.truncate(limit);
    Ok((reference, tags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_name_registries_or_not() {
        for (term, want) in [
            ("nginx", (None, "nginx")),
            ("a/b", (None, "a/b")),
            ("docker.io/a", (None, "a")),
            ("localhost/a/b", (Some("localhost"), "a/b")),
            ("h:5000", (Some("h:5000"), "")),
            ("quay.io/", (Some("quay.io"), "")),
        ] {
            assert_eq!(split(term), want, "{term}");
        }
    }
}
