//! Roots: what no collection may take, as far as it is known.
//!
//! They only ever grow. What references keep is known from one look at them, what came later from the lines of leases.

use crate::lease::Held;
use crate::mark::{EntryId, Object};
use crate::reach::{Reached, Unreadable};
use crate::{ContainerV1, LocalStore, Result};
use digest::{DiffId, Digest};
use std::collections::HashSet;

#[derive(Debug, Default)]
pub(crate) struct Roots {
    pub objects: HashSet<Object>,
    pub entries: HashSet<EntryId>,
    held: HashSet<Held>,
    reached: Reached,
    /// Blobs that somebody holds and that may reach more than is known; see [`Reached::unread`].
    watched: HashSet<Digest>,
}

impl Roots {
    pub fn new(unreadable: Unreadable) -> Roots {
        Roots { reached: Reached { unreadable, ..Reached::default() }, ..Roots::default() }
    }

    /// Add what references keep. Layer records count by their names; whoever lists the records finds what they need.
    pub fn add_named(&mut self, store: &LocalStore, targets: Vec<Digest>) -> Result<()> {
        store.reach_all(targets, &mut self.reached)?;
        self.objects.extend(self.reached.blobs.iter().copied().map(Object::Blob));
        self.entries.extend(self.reached.layers.iter().copied().map(EntryId::Layer));
        let held = |d: &&Digest| self.held.contains(&Held::Blob(**d));
        self.watched = self.reached.unread.iter().filter(held).copied().collect();
        Ok(())
    }

    /// Add what working containers keep: their images and their own layers.
    pub fn add_containers(&mut self, store: &LocalStore, containers: Vec<ContainerV1>) -> Result<()> {
        self.add_named(store, containers.iter().filter_map(|c| c.image).collect())?;
        self.objects.extend(containers.into_iter().flat_map(|c| c.layers).map(Object::Snapshot));
        Ok(())
    }

    /// Add what lines of leases hold, with what it needs. What they tell of must have happened (see
    /// [`crate::lease::Journal::read`]): a record is read only once.
    pub fn note(&mut self, store: &LocalStore, lines: Vec<Held>) -> Result<()> {
        for line in lines {
            if !self.held.insert(line.clone()) {
                continue;
            }
            match line {
                Held::Blob(digest) => {
                    self.objects.insert(Object::Blob(digest));
                    if self.reached.unread.contains(&digest) {
                        self.watched.insert(digest);
                    }
                }
                Held::Snapshot(id) => drop(self.objects.insert(Object::Snapshot(id))),
                Held::Layer(diff) => self.note_layer(store, diff)?,
                Held::Record(key) => {
                    self.entries.insert(EntryId::Record(key));
                    if let Some((record, _)) = store.peek_record(&key)? {
                        self.objects.extend(record.blobs.into_iter().map(Object::Blob));
                        self.objects.extend(record.snapshots.into_iter().map(Object::Snapshot));
                    }
                }
                Held::Named(digest) => {
                    self.note_reached(store, |store, reached| store.reach(digest, reached))?;
                }
            }
        }
        // A manifest that was lost and was brought back reaches what it reached before.
        for digest in std::mem::take(&mut self.watched) {
            self.reached.unread.remove(&digest);
            self.note_reached(store, |store, reached| store.reach(digest, reached))?;
        }
        Ok(())
    }

    fn note_reached(
        &mut self,
        store: &LocalStore,
        reach: impl FnOnce(&LocalStore, &mut Reached) -> Result<()>,
    ) -> Result<()> {
        // By itself first: the whole is large.
        let mut found = Reached { unreadable: self.reached.unreadable, ..Reached::default() };
        reach(store, &mut found)?;
        self.objects.extend(found.blobs.iter().copied().map(Object::Blob));
        for diff in &found.layers {
            self.note_layer(store, *diff)?;
        }
        self.reached.unread.extend(&found.unread);
        self.watched.extend(found.unread.iter().filter(|d| self.held.contains(&Held::Blob(**d))));
        self.reached.blobs.extend(found.blobs);
        Ok(())
    }

    fn note_layer(&mut self, store: &LocalStore, diff: DiffId) -> Result<()> {
        self.entries.insert(EntryId::Layer(diff));
        if let Some(record) = store.peek_layer(&diff)? {
            self.objects.extend(record.blobs.iter().map(|b| Object::Blob(b.digest)));
            self.objects.extend(record.snapshot.map(Object::Snapshot));
        }
        Ok(())
    }
}
