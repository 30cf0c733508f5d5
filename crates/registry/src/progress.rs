//! What a transfer tells those who watch.

use oci::Descriptor;

/// Something happened to one blob or manifest. Events of one blob come in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A transfer starts; `offset` bytes were there already.
    Started { blob: &'a Descriptor, offset: u64 },
    /// That many more bytes went over the wire.
    Bytes { blob: &'a Descriptor, count: u64 },
    /// An attempt failed and is repeated.
    Retrying { blob: &'a Descriptor },
    /// The receiver has it already.
    Present { blob: &'a Descriptor },
    /// The registry took it over from another of its repositories.
    Mounted { blob: &'a Descriptor, from: &'a str },
    /// It arrived whole.
    Done { blob: &'a Descriptor },
    /// A foreign layer, which is not uploaded.
    Skipped { blob: &'a Descriptor },
}

/// Watches transfers. Called often and from several tasks: it must be quick.
pub trait Progress: Send + Sync {
    fn event(&self, event: Event<'_>);
}

/// Nobody watches.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn event(&self, _: Event<'_>) {}
}
