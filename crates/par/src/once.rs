//! Single flight: many ask for a key at the same time, one works, all get the answer.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

/// A map whose values are made at most once each. A failed or cancelled attempt leaves the key empty,
/// so the next who asks tries again.
pub struct OnceMap<K, V> {
    cells: Mutex<HashMap<K, Arc<OnceCell<V>>>>,
}

impl<K: Eq + Hash + Clone, V: Clone> OnceMap<K, V> {
    pub fn new() -> Self {
        OnceMap { cells: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Arc<OnceCell<V>>>> {
        // The map is valid after every statement, so a panic elsewhere leaves it usable.
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cell(&self, key: &K) -> Arc<OnceCell<V>> {
        self.lock().entry(key.clone()).or_default().clone()
    }

    /// The value of `key`, made by `make` unless it is there or being made by another task.
    pub async fn get_or_try_init<E, F, Fut>(&self, key: &K, make: F) -> Result<V, E>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<V, E>>,
    {
        self.cell(key).get_or_try_init(make).await.cloned()
    }

    /// As [`OnceMap::get_or_try_init`], for work that cannot fail.
    pub async fn get_or_init<F, Fut>(&self, key: &K, make: F) -> V
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = V>,
    {
        self.cell(key).get_or_init(make).await.clone()
    }

    /// The value if it is there already.
    pub fn get(&self, key: &K) -> Option<V> {
        self.lock().get(key).and_then(|c| c.get().cloned())
    }

    /// Forget `key`; an attempt under way is not disturbed, but later callers start anew.
    pub fn remove(&self, key: &K) -> Option<V> {
        self.lock().remove(key).and_then(|c| c.get().cloned())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Default for OnceMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn many_callers_one_attempt() {
        let map = Arc::new(OnceMap::new());
        let runs = Arc::new(AtomicUsize::new(0));
        let mut group = crate::TaskGroup::new();
        for _ in 0..20 {
            let (map, runs) = (map.clone(), runs.clone());
            group.spawn(async move {
                map.get_or_init(&"k", || async {
                    tokio::task::yield_now().await;
                    runs.fetch_add(1, Ordering::SeqCst)
                })
                .await
            });
        }
        while let Some(v) = group.next().await {
            assert_eq!(v, 0);
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(map.get(&"k"), Some(0));
        assert_eq!(map.remove(&"k"), Some(0));
        assert_eq!(map.get(&"k"), None);
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let map: OnceMap<u8, u8> = OnceMap::new();
        assert_eq!(map.get_or_try_init(&1, || async { Err("no") }).await, Err("no"));
        assert_eq!(map.get_or_try_init(&1, || async { Ok::<_, ()>(7) }).await, Ok(7));
    }
}
