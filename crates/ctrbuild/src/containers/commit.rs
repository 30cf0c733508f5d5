//! A container becomes an image: what was changed in it is one layer on the image that it started from.

use super::{ConfigChange, Container, Setup, config, work};
use crate::compose::{self, Compression};
use crate::{BuildObserver, Error, ErrorKind, Session, images};
use oci::media::Format;
use oci::{Content, History, Image, Reference};
use store::{Expected, RefTarget};

/// The label that holds who publishes an image (OCI image spec, annotations.md).
pub const PUBLISHER: &str = "org.opencontainers.image.vendor";
/// And its version.
pub const VERSION: &str = "org.opencontainers.image.version";

/// How an image is made of a container.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// Without one it is found by its id.
    pub name: Option<Reference>,
    pub author: Option<String>,
    pub publisher: Option<String>,
    pub version: Option<String>,
    /// For the history.
    pub message: Option<String>,
    /// Instructions of recipes, for this image only.
    pub changes: Vec<String>,
    /// Seconds since 1970: when it was made.
    pub created: i64,
    /// No file of the new layer is younger.
    pub rewrite_timestamp: bool,
}

/// Most bytes that a history entry tells of what was done.
const LONGEST: usize = 4096;

/// Make an image of a container, which stays as it is.
pub async fn commit(
    session: &Session,
    setup: &Setup,
    observer: &dyn BuildObserver,
    container: &mut Container,
    request: &CommitRequest,
) -> Result<Image, Error> {
    if request.name.as_ref().is_some_and(|n| n.digest().is_some()) {
        return Err(Error::new(ErrorKind::Recipe, "refusing to create a tag with a digest reference"));
    }
    let mut changes: Vec<ConfigChange> =
        request.changes.iter().cloned().map(ConfigChange::Instruction).collect();
    let labels = [(PUBLISHER, &request.publisher), (VERSION, &request.version)];
    for (label, value) in labels {
        changes.extend(value.iter().map(|v| ConfigChange::Label(label.into(), v.clone())));
    }
    changes.extend(request.author.iter().cloned().map(ConfigChange::Author));
    let id = container.id().to_string();
    let mut image = config::changed(session, &id, container.facts.config.clone(), &changes).await?;

    work::merge_changes(session, setup, observer, container, 1).await?;
    let layers = work::stack(session, setup, observer, container).await?;
    let changed = container.record.layers.len();
    let diff_ids = work::diff_ids(session, setup, &layers).await?;
    let base_layers = diff_ids.len() - changed;
    image.rootfs.diff_ids = diff_ids;
    let created = oci::rfc3339(request.created, 0);
    image.created = Some(created.clone());
    image.history.push(History {
        created: Some(created),
        created_by: container.facts.created_by.clone().unwrap_or_else(|| told(&container.facts.steps)),
        author: image.author.clone(),
        comment: request.message.clone().unwrap_or_default(),
        empty_layer: changed == 0,
        ..History::default()
    });

    let (session, request) = (session.clone(), request.clone());
    let annotations = container.facts.annotations.clone();
    par::blocking(move || {
        let store = &session.store;
        let mut made = compose::annotated(store, &image, Format::Oci, annotations)?;
        if request.rewrite_timestamp {
            made = compose::rewrite(store, &made, base_layers, request.created, Compression::AsIs)?;
        }
        match &request.name {
            None => images::keep_untagged(&session, &Content::image(&made))?,
            Some(name) => {
                let manifest = made.manifest.descriptor();
                let target = RefTarget {
                    media_type: manifest.media_type,
                    digest: manifest.digest,
                    size: manifest.size,
                    annotations: Default::default(),
                };
                store.set_ref(&name.to_string(), target, images::KIND_DERIVED, &Expected::Any)?;
            }
        }
        Ok(made)
    })
    .await
}

/// What was done, in one line.
fn told(steps: &[String]) -> String {
    let mut text = steps.join("; ").replace(['\n', '\r'], " ");
    if text.len() > LONGEST {
        let mut end = LONGEST;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
    text
}
