//! What the server needs of the world.

use std::path::Path;

/// Files and time. An implementation may be a real file system or a map.
pub trait Host {
    /// The text of a file; `None` where it can't be read.
    fn read(&self, path: &Path) -> Option<String>;
    /// What is in a folder, in any order; nothing where it can't be read.
    fn list(&self, folder: &Path) -> Vec<Entry>;
    /// Whether there is a file or folder.
    fn exists(&self, path: &Path) -> bool;
    /// Milliseconds since some moment.
    fn now(&self) -> u64;
}

/// Something in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is a folder.
    pub folder: bool,
}
