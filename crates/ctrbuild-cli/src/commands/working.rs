//! What commands on working containers have in common.

use super::{build, build_network};
use crate::args::ProgressMode;
use crate::progress;
use ctrbuild::containers::Setup;
use ctrbuild::{BuildObserver, Error, PullPolicy, RemoteFiles, Session};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// What they need of this machine.
pub fn setup(session: &Session, network: &str, context: PathBuf) -> Result<Setup, Error> {
    let (network, default_network) = build_network::parse(network)?;
    Ok(Setup {
        runtime: build::runtime(),
        isolation: worker::Isolation { default_network, ..worker::Isolation::default() },
        network,
        remote: Arc::new(RemoteFiles::new(session, BTreeMap::new(), build::git_settings(None))),
        context,
        pull: PullPolicy::IfMissing,
    })
}

/// Tells what is fetched, on standard error.
pub fn observer() -> Arc<dyn BuildObserver> {
    progress::observer(ProgressMode::Plain)
}

/// The folder of a context, which must be there.
pub fn context(folder: Option<&PathBuf>) -> Result<PathBuf, Error> {
    let folder = folder.cloned().unwrap_or_else(|| PathBuf::from("."));
    match folder.canonicalize() {
        Ok(found) if found.is_dir() => Ok(found),
        Ok(_) => Err(build::usage(format!("{} is no folder", folder.display()))),
        Err(e) => Err(build::usage(format!("can't use {}: {e}", folder.display()))),
    }
}

/// Words of a command line: a list in JSON, or text with the shell's quotes.
pub fn words(text: &str) -> Result<Vec<String>, Error> {
    let trimmed = text.trim();
    if trimmed.starts_with('[') {
        return serde_json::from_str(trimmed).map_err(|e| {
            build::usage(format!("{text:?} is no list of words: {e}")).hint(r#"write ["word","word"]"#)
        });
    }
    let mut out: Vec<String> = Vec::new();
    let (mut word, mut quote) = (None::<String>, None);
    let mut chars = trimmed.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\\', None | Some('"')) => match chars.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(build::usage(format!("{text:?} ends with a backslash"))),
            },
            (c, Some(_)) => word.get_or_insert_default().push(c),
            ('"' | '\'', None) => {
                word.get_or_insert_default();
                quote = Some(c);
            }
            (c, None) if c.is_whitespace() => out.extend(word.take()),
            (c, None) => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(build::usage(format!("a quote in {text:?} has no end")));
    }
    out.extend(word);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_a_shell_has_them() {
        for (text, want) in [
            ("", &[][..]),
            ("a  b", &["a", "b"]),
            (r#"sh -c 'a b' "c\"d" e\ f ''"#, &["sh", "-c", "a b", "c\"d", "e f", ""]),
            (r#" ["a b","c"] "#, &["a b", "c"]),
        ] {
            assert_eq!(words(text).unwrap(), want, "{text}");
        }
        for bad in ["'a", "a\\", "[1]", "[\"a\""] {
            assert!(words(bad).is_err(), "{bad}");
        }
    }
}
