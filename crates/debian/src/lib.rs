//! Debian base images made straight from a mirror: no registry, no debootstrap, no program of the host.
//!
//! ```text
//! Bootstrap --fetch (async)--> Fetched --install (sync)--> Report
//!   InRelease, signature, indices,        unpack in parallel, dpkg database,
//!   dependencies, archives                configure inside the new root, clean
//! ```
//!
//! Invariants:
//! - nothing from the network is used before its hash is checked, and every hash hangs on a release file
//!   whose OpenPGP signature is good;
//! - no path of a package leads out of the destination;
//! - no program of the new root runs but through the caller's [`ChrootRunner`];
//! - the result depends on the release files, the variant and the included packages alone: file times are
//!   capped at the release's date.
//!
//! Deliberately not here: sandboxes (the caller brings one), image configs and stores, any reading of
//! environment variables or clocks (the caller gives them).
#![forbid(unsafe_code)]

mod arch;
mod archive;
mod bootstrap;
mod database;
mod date;
mod deb822;
mod error;
mod fetch;
mod finish;
mod index;
mod install;
mod pgp;
mod relation;
mod release;
mod resolve;
mod root;
mod runner;
mod suites;
mod unpack;
mod version;

pub use arch::Architecture;
pub use bootstrap::{
    Bootstrap, DEFAULT_MIRROR, DEFAULT_SECURITY_MIRROR, Event, Expiry, ExtraSource, ExtraSources, Fetched,
    Variant,
};
pub use deb822::{Paragraph, ParagraphError, Paragraphs, paragraphs};
pub use error::{Error, Result};
pub use fetch::{FetchError, Proxies};
pub use index::{Field, Index, Package, Priority};
pub use install::{InstalledPackage, Report, Timing};
pub use pgp::{Keyring, PgpError, Verified, verify_cleartext};
pub use relation::{Comparison, Group, Relation, is_package_name, parse_relations};
pub use release::{IndexFile, Release};
pub use resolve::{Reason, Selection, minbase, order, resolve};
pub use runner::{ChrootCommand, ChrootOutput, ChrootRunner, Exit};
pub use suites::{KNOWN_SUITES, Suite, find_suites};
pub use version::{Version, VersionError};
