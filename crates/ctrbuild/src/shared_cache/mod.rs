//! Caches shared between machines: results of steps in a registry or in a folder.
//!
//! `--cache-to` writes what a build has in its cache, `--cache-from` lets another build use it. The form is
//! described in docs/shared-cache.md. Imported results are trusted by the builds that name them and by no
//! others; each layer is fetched only when a build needs its files.
//!
//! Deliberately not here: what a key covers (crate `solver`), and how a layer is fetched (crate `worker`).

mod elsewhere;
mod export;
mod format;
mod import;

pub(crate) use elsewhere::{elsewhere, send};
pub(crate) use export::{Solution, export};
pub(crate) use import::import;

use crate::compose::Compression;
use crate::export::split_csv;
use crate::{Error, ErrorKind};
use oci::Reference;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CachePlace {
    Registry(Reference),
    /// An OCI layout as a folder; a cache in it has a tag.
    Folder {
        path: PathBuf,
        tag: String,
    },
}

impl std::fmt::Display for CachePlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CachePlace::Registry(reference) => write!(f, "{}", reference.familiar()),
            CachePlace::Folder { path, .. } => write!(f, "{}", path.display()),
        }
    }
}

/// One `--cache-from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSource {
    pub place: CachePlace,
}

/// Which results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CacheScope {
    /// Those whose layers are in the image.
    #[default]
    Min,
    /// Those of all stages that the build needs.
    Max,
}

/// Whether a cache that can't be written fails the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCacheError {
    #[default]
    Fail,
    Ignore,
}

/// One `--cache-to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTarget {
    pub place: CachePlace,
    pub scope: CacheScope,
    pub compression: Compression,
    pub on_error: OnCacheError,
}

/// Fields of one `--cache-from` or `--cache-to`.
struct Fields<'a> {
    flag: &'static str,
    text: &'a str,
    fields: BTreeMap<String, String>,
}

impl<'a> Fields<'a> {
    /// A lone name is a registry's, as in buildx.
    fn parse(flag: &'static str, text: &'a str) -> Result<Self, Error> {
        let mut this = Fields { flag, text, fields: BTreeMap::new() };
        if !text.contains('=') {
            this.fields = BTreeMap::from([
                ("type".to_string(), "registry".to_string()),
                ("ref".to_string(), text.to_string()),
            ]);
            return Ok(this);
        }
        for field in split_csv(text) {
            let Some((key, value)) = field.split_once('=') else {
                return Err(this.wrong(format!("{field:?} has no `=`")));
            };
            this.fields.insert(key.trim().to_lowercase(), value.to_string());
        }
        Ok(this)
    }

    fn wrong(&self, message: String) -> Error {
        let folder = if self.flag == "cache-from" { "src" } else { "dest" };
        Error::new(ErrorKind::Recipe, format!("invalid --{} {:?}: {message}", self.flag, self.text))
            .hint(format!("write type=registry,ref=HOST/NAME:TAG or type=local,{folder}=FOLDER"))
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.fields.remove(key)
    }

    fn place(&mut self, folder: &str) -> Result<CachePlace, Error> {
        let kind = self.take("type").unwrap_or_default();
        match kind.as_str() {
            "registry" => {
                let name = self.take("ref").ok_or_else(|| self.wrong("ref is missing".into()))?;
                crate::images::parse_name(&name).map(CachePlace::Registry).map_err(|e| self.wrong(e.message))
            }
            "local" => {
                let path = self.take(folder).ok_or_else(|| self.wrong(format!("{folder} is missing")))?;
                let tag = self.take("tag").unwrap_or_else(|| oci::DEFAULT_TAG.to_string());
                if !oci::is_tag(&tag) {
                    return Err(self.wrong(format!("{tag:?} is no tag")));
                }
                Ok(CachePlace::Folder { path: PathBuf::from(path), tag })
            }
            "" => Err(self.wrong("type is missing".into())),
            known @ ("inline" | "gha" | "s3" | "azblob") => {
                Err(self.wrong(format!("caches of type {known} are not supported")))
            }
            other => Err(self.wrong(format!("there is no type {other:?}"))),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(key) => Err(self.wrong(format!("there is no option {key:?}"))),
        }
    }
}

impl CacheSource {
    /// Parse `type=registry,ref=NAME`, `type=local,src=FOLDER[,tag=TAG]`, or a lone name.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::parse("cache-from", text)?;
        let place = fields.place("src")?;
        fields.finish()?;
        Ok(CacheSource { place })
    }
}

impl CacheTarget {
    /// Parse `type=registry,ref=NAME` or `type=local,dest=FOLDER[,tag=TAG]`, with `mode=min|max`,
    /// `compression=gzip|zstd|uncompressed`, `compression-level=N` and `ignore-error=true|false`.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut fields = Fields::parse("cache-to", text)?;
        let place = fields.place("dest")?;
        let scope = match fields.take("mode").as_deref() {
            None | Some("min") => CacheScope::Min,
            Some("max") => CacheScope::Max,
            Some(other) => return Err(fields.wrong(format!("mode is min or max, not {other:?}"))),
        };
        let (kind, level) = (fields.take("compression"), fields.take("compression-level"));
        let compression =
            Compression::parse(kind.as_deref(), level.as_deref()).map_err(|e| fields.wrong(e))?;
        let compression = compression.unwrap_or(Compression::Gzip { level: None });
        let on_error = match fields.take("ignore-error").as_deref() {
            None | Some("false") => OnCacheError::Fail,
            Some("true" | "") => OnCacheError::Ignore,
            Some(other) => return Err(fields.wrong(format!("ignore-error is true or false, not {other:?}"))),
        };
        // What buildx also takes, and what is always so here.
        for (key, always) in [("image-manifest", "true"), ("oci-mediatypes", "true")] {
            if let Some(value) = fields.take(key)
                && value != always
            {
                return Err(fields.wrong(format!("{key} can only be {always}")));
            }
        }
        fields.finish()?;
        Ok(CacheTarget { place, scope, compression, on_error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_and_targets_are_read() {
        let registry = |name: &str| CachePlace::Registry(crate::images::parse_name(name).unwrap());
        assert_eq!(CacheSource::parse("host/app").unwrap().place, registry("host/app:latest"));
        let source = CacheSource::parse("type=registry,ref=host:5000/app:cache").unwrap();
        assert_eq!(source.place, registry("host:5000/app:cache"));
        let target = CacheTarget::parse("type=local,dest=/c,mode=max,compression=zstd,ignore-error=true");
        assert_eq!(
            target.unwrap(),
            CacheTarget {
                place: CachePlace::Folder { path: "/c".into(), tag: "latest".into() },
                scope: CacheScope::Max,
                compression: Compression::Zstd { level: None },
                on_error: OnCacheError::Ignore,
            }
        );
        assert_eq!(CacheTarget::parse("host/app").unwrap().scope, CacheScope::Min);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("type=local,dest=/c", "src"),
            ("type=gha", "gha"),
            ("type=registry", "ref"),
            ("type=registry,ref=UPPER", "UPPER"),
            ("type=local,src=/c,foo=1", "foo"),
            ("type=local,src=/c,tag=a b", "tag"),
            ("type=local,src", "="),
        ] {
            let e = CacheSource::parse(text).unwrap_err();
            assert!(e.message.contains(word) && e.hint.is_some(), "{text}: {}", e.message);
        }
        for text in ["type=local,dest=/c,mode=all", "host/app,mode=max", "type=local,dest=/c,compression=xz"]
        {
            assert!(CacheTarget::parse(text).is_err(), "{text}");
        }
    }
}
