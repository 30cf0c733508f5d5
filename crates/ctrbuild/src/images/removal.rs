//! Removing images, with docker's rules of what is in the way.
//!
//! A name can always go as long as the image has another one. The last one can't while a container or another image depends
//! on the image: what they need would stay in any case, but nobody would know any more what it is.

use super::{UNTAGGED, find, images_of, lineage};
use crate::{Error, ErrorKind, containers};
use digest::Digest;
use oci::{Document, Reference};
use store::{Expected, LocalStore};

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemovedName {
    Untagged(String),
    Deleted(Digest),
}

/// Remove a name; or an image by id with all its names, if `force` or it has only one.
pub fn remove(store: &LocalStore, name: &str, force: bool) -> Result<Vec<RemovedName>, Error> {
    let found = find(store, name)?;
    let digest = found.document.digest();
    let by_name = found.refs.len() == 1
        && name.parse::<Reference>().is_ok_and(|r| r.with_default_tag().to_string() == found.refs[0].name);
    let own: Vec<&str> = found.refs.iter().map(|r| r.name.as_str()).collect();
    // Before others are kept out, since it reads all manifests: a child that comes meanwhile keeps what it needs anyhow.
    let child = match by_name && force || store.is_named_besides(&digest, &own)? {
        true => None,
        false => lineage::children(store, &images_of(store, &found.document)?, &digest)?.into_iter().next(),
    };
    // From the look at who depends on it to the end nobody gives it another name.
    let guard = store.refs_lock()?;
    if !store.is_named_besides(&digest, &own)? {
        check(store, &found.document, child, by_name, found.refs.len(), force)?;
    }
    let mut out = Vec::new();
    for r in &found.refs {
        store.delete_ref_locked(&r.name, &Expected::Digest(r.target.digest), &guard)?;
        if !r.name.starts_with(UNTAGGED) {
            let shown = r.name.parse::<Reference>().map_or_else(|_| r.name.clone(), |n| n.familiar());
            out.push(RemovedName::Untagged(shown));
        }
    }
    if !store.is_named(&digest)? && users(store, &found.document)?.is_empty() {
        out.push(RemovedName::Deleted(digest));
    }
    Ok(out)
}

/// Containers that were made of an image.
fn users(store: &LocalStore, document: &Document) -> Result<Vec<containers::Listed>, Error> {
    let mut manifests = vec![document.digest()];
    if let Document::Index(index) = document {
        manifests.extend(index.value.manifests.iter().map(|m| m.digest));
    }
    containers::users_of(store, &manifests)
}

/// Whether something is in the way of removing the last names of an image. `force` overrules what docker calls soft; and
/// for an image that others were made from, such as `child`, where its name was given: it is only the name that goes.
fn check(
    store: &LocalStore,
    document: &Document,
    child: Option<String>,
    by_name: bool,
    names: usize,
    force: bool,
) -> Result<(), Error> {
    let images = images_of(store, document)?;
    let id = match images.as_slice() {
        [only] => only.id(),
        _ => document.digest(),
    };
    let conflict = |forceable: bool, reason: String, hint: String| {
        let how = if forceable { "must be forced" } else { "cannot be forced" };
        let message = format!("conflict: unable to delete {} ({how}) - {reason}", id.short());
        Err(Error::new(ErrorKind::Conflict, message).hint(hint))
    };
    if let Some(child) = child {
        let child = child.parse::<Reference>().map_or_else(|_| child.clone(), |n| n.familiar());
        return conflict(
            by_name,
            "image has dependent child images".into(),
            format!("remove {child} first; `ctrbuild image tree` shows which was made from which"),
        );
    }
    let users = users(store, document)?;
    if let Some(c) = users.iter().find(|c| c.running) {
        return conflict(
            false,
            format!("image is being used by running container {}", short(&c.id)),
            format!(
                "wait for the command that works in {}, then remove the container: ctrbuild rm {}",
                c.name, c.name
            ),
        );
    }
    if force {
        return Ok(());
    }
    if let Some(c) = users.first() {
        return conflict(
            true,
            format!("image is being used by stopped container {}", short(&c.id)),
            format!("remove the container first: ctrbuild rm {}; or use --force", c.name),
        );
    }
    if !by_name && names > 1 {
        return conflict(
            true,
            "image is referenced in multiple repositories".into(),
            "remove it by each of its names, or use --force".into(),
        );
    }
    Ok(())
}

fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
