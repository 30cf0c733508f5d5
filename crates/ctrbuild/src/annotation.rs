//! Annotations that a build puts on its images (OCI image spec, annotations.md), in the two forms that docker has:
//! `--annotation [PLACE[,PLACE]:]KEY=VALUE` and keys of `--output`, `annotation[-PLACE][[PLATFORM]].KEY`.

use crate::{Error, ErrorKind};
use oci::Platform;
use std::collections::BTreeMap;

/// The document that carries an annotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Manifest,
    /// The entry of a manifest in its index, or in `index.json` of an OCI layout.
    ManifestDescriptor,
    Index,
    /// The entry of an index in `index.json` of an OCI layout.
    IndexDescriptor,
}

const PLACES: [(&str, Place); 4] = [
    ("manifest", Place::Manifest),
    ("manifest-descriptor", Place::ManifestDescriptor),
    ("index", Place::Index),
    ("index-descriptor", Place::IndexDescriptor),
];

#[derive(Debug, Clone, PartialEq, Eq)]
struct Annotation {
    place: Place,
    /// Only the manifest of this platform; all if there is none.
    platform: Option<Platform>,
    key: String,
    value: String,
}

/// What is to be put on images. Of two with the same key the later one counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Annotations(Vec<Annotation>);

impl Annotations {
    /// Those of `--annotation` arguments. `host` fills in what a platform leaves out.
    pub fn parse(arguments: &[String], host: &Platform) -> Result<Self, Error> {
        let mut out = Annotations::default();
        for text in arguments {
            let wrong = |message: &str| {
                Error::new(ErrorKind::Recipe, format!("invalid --annotation {text:?}: {message}")).hint(
                    "write KEY=VALUE, or PLACE:KEY=VALUE with manifest, manifest-descriptor, index or \
                     index-descriptor as place, and [PLATFORM] behind it for one of several",
                )
            };
            let (key, value) = text.split_once('=').ok_or_else(|| wrong("it has no `=`"))?;
            let (places, key) = key.split_once(':').unwrap_or(("manifest", key));
            if key.is_empty() {
                return Err(wrong("the key is empty"));
            }
            for place in places.split(',') {
                let (place, platform) = place_of(place, host).map_err(|e| wrong(&e))?;
                out.add(place, platform, key, value);
            }
        }
        Ok(out)
    }

    /// Take one in that is written as a key of `--output`; false where it is no annotation.
    pub(crate) fn take_option(&mut self, key: &str, value: &str) -> Result<bool, String> {
        let Some(rest) = key.strip_prefix("annotation") else { return Ok(false) };
        // A platform may hold no point, and a key may: the first one divides them.
        let Some((place, key)) = rest.split_once('.').filter(|(_, key)| !key.is_empty()) else {
            return Ok(false);
        };
        let named = match place.strip_prefix('-') {
            Some(named) => named.to_string(),
            None => format!("manifest{place}"),
        };
        // Here the host says nothing: what is left out stays open, and is compared as it is.
        let (place, platform) = place_of(&named, &Platform::new("linux", ""))?;
        self.add(place, platform, key, value);
        Ok(true)
    }

    fn add(&mut self, place: Place, platform: Option<Platform>, key: &str, value: &str) {
        self.0.push(Annotation { place, platform, key: key.to_string(), value: value.to_string() });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn extend(&mut self, others: Annotations) {
        self.0.extend(others.0);
    }

    /// What the manifest of that platform carries.
    pub(crate) fn manifest(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.at(Place::Manifest, Some(platform))
    }
    pub(crate) fn manifest_descriptor(&self, platform: &Platform) -> BTreeMap<String, String> {
        self.at(Place::ManifestDescriptor, Some(platform))
    }
    pub(crate) fn index(&self) -> BTreeMap<String, String> {
        self.at(Place::Index, None)
    }
    pub(crate) fn index_descriptor(&self) -> BTreeMap<String, String> {
        self.at(Place::IndexDescriptor, None)
    }

    fn at(&self, place: Place, platform: Option<&Platform>) -> BTreeMap<String, String> {
        let fits = |a: &&Annotation| {
            a.place == place
                && (a.platform.is_none() || platform.is_none() || a.platform.as_ref() == platform)
        };
        self.0.iter().filter(fits).map(|a| (a.key.clone(), a.value.clone())).collect()
    }

    /// Whether all of them have a place where images of these platforms are written.
    pub(crate) fn check(&self, platforms: &[&Platform]) -> Result<(), Error> {
        let wrong = |message: String| Err(Error::new(ErrorKind::Recipe, message));
        for a in &self.0 {
            if platforms.len() == 1 && matches!(a.place, Place::Index | Place::IndexDescriptor) {
                return wrong(format!("annotation {:?} is for an index, but a single image is made", a.key))
                    .map_err(|e| {
                        e.hint("an index is made for several platforms; an image takes `manifest:`")
                    });
            }
            if let Some(platform) = a.platform.as_ref().filter(|p| !platforms.contains(p)) {
                return wrong(format!("annotation {:?} is for {platform}, which is not built", a.key));
            }
        }
        Ok(())
    }
}

fn place_of(text: &str, host: &Platform) -> Result<(Place, Option<Platform>), String> {
    let (name, platform) = match text.split_once('[') {
        None => (text, None),
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']').ok_or_else(|| format!("{text:?} has no `]`"))?;
            (name, Some(Platform::parse(platform, host).map_err(|e| e.to_string())?))
        }
    };
    let found = PLACES.iter().find(|(known, _)| *known == name);
    let (_, place) = found.ok_or_else(|| format!("there is no place {name:?}"))?;
    if platform.is_some() && matches!(place, Place::Index | Place::IndexDescriptor) {
        return Err("an index is of no single platform".into());
    }
    Ok((*place, platform))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> Platform {
        Platform::new("linux", "amd64")
    }
    fn parse(arguments: &[&str]) -> Result<Annotations, Error> {
        Annotations::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>(), &host())
    }
    fn one(map: BTreeMap<String, String>) -> String {
        map.into_iter().map(|(k, v)| format!("{k}={v};")).collect()
    }

    #[test]
    fn arguments() {
        let a = parse(&[
            "org.x=1",
            "org.y=a=b",
            "index,manifest-descriptor:k=v",
            "manifest[linux/arm64]:only=arm",
            "org.x=2",
            "index-descriptor:o=p",
        ]);
        let a = a.unwrap();
        assert_eq!(one(a.manifest(&host())), "org.x=2;org.y=a=b;");
        let arm = Platform::parse("linux/arm64", &host()).unwrap();
        assert_eq!(one(a.manifest(&arm)), "only=arm;org.x=2;org.y=a=b;");
        assert_eq!(one(a.manifest_descriptor(&arm)), "k=v;");
        assert_eq!((one(a.index()), one(a.index_descriptor())), ("k=v;".into(), "o=p;".into()));
        assert!(a.check(&[&host(), &arm]).is_ok());
        assert!(a.check(&[&host()]).unwrap_err().message.contains("for an index"));
        let only_arm = parse(&["manifest[linux/arm64]:a=b"]).unwrap();
        assert!(only_arm.check(&[&host()]).unwrap_err().message.contains("linux/arm64, which is not built"));
        for bad in [
            "a",
            "=b",
            "manifest:=b",
            "layer:a=b",
            "manifest[linux/arm64:a=b",
            "index[linux/arm64]:a=b",
            ":a=b",
        ] {
            assert!(parse(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn options() {
        let mut a = Annotations::default();
        for (key, value) in [
            ("annotation.org.A", "1"),
            ("annotation-index.b", "2"),
            ("annotation-manifest[linux/amd64].c", "3"),
            ("annotation[linux/amd64].d", "4"),
        ] {
            assert_eq!(a.take_option(key, value), Ok(true), "{key}");
        }
        assert_eq!(one(a.manifest(&host())), "c=3;d=4;org.A=1;");
        assert_eq!(one(a.index()), "b=2;");
        for other in ["compression", "annotation", "annotation.", "annotations"] {
            assert_eq!(a.take_option(other, ""), Ok(false), "{other}");
        }
        assert!(a.take_option("annotation-layer.x", "").is_err());
    }
}
