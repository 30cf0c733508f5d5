//! Docker Hub's search: `GET /v1/search?q=…&n=…` of the index (Docker registry API, version 1). Other registries have none.

use crate::auth::Scope;
use crate::client::Client;
use crate::error::Error;
use crate::http::{Ask, Endpoint, host_of, read_bounded, status_error};
use oci::MAX_MANIFEST_BYTES;
use reqwest::{Method, Url};
use serde::Deserialize;

/// Most results that one search gives.
pub const MAX_RESULTS: usize = 100;

/// A repository that was found.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SearchResult {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default, rename = "star_count")]
    pub stars: u64,
    #[serde(default, rename = "is_official")]
    pub official: bool,
    #[serde(default, rename = "is_automated")]
    pub automated: bool,
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    results: Option<Vec<SearchResult>>,
}

impl Client {
    /// Repositories of Docker Hub that have to do with `term`, in the Hub's order; [`MAX_RESULTS`] at most.
    pub async fn search_hub(&self, term: &str, limit: usize) -> Result<Vec<SearchResult>, Error> {
        let setup = || Error::Setup { what: "the search index is not an http or https URL".into() };
        let base = Url::parse(&self.config().search_index).map_err(|_| setup())?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
            return Err(setup());
        }
        let mut url = base.join("/v1/search").map_err(|_| setup())?;
        let limit = limit.clamp(1, MAX_RESULTS);
        url.query_pairs_mut().append_pair("q", term).append_pair("n", &limit.to_string());
        // Known by its own name: credentials of the registry are not for it.
        let ep = Endpoint { domain: host_of(&base), base };
        let (host, scope) = (ep.host(), Scope::default());
        let mut attempt = 0;
        loop {
            attempt += 1;
            let response = self.http.send(&ep, Ask::new(Method::GET, url.clone(), &scope)).await?;
            if !response.status().is_success() {
                return Err(status_error(self.config(), &host, response).await);
            }
            match read_bounded(self.config(), &host, response, MAX_MANIFEST_BYTES).await {
                Ok(body) => {
                    let page: Page = serde_json::from_slice(&body)
                        .map_err(|_| Error::protocol(&host, "its answer to a search is no JSON"))?;
                    let mut results = page.results.unwrap_or_default();
                    results.truncate(limit);
                    return Ok(results);
                }
                // The request was answered, so it is not retried by itself.
                Err(e) => self.http.pause_or_fail(attempt, e).await?,
            }
        }
    }
}
