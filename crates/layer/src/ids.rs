//! Maps between the owner numbers of an image and those on disk.

/// `len` ids from `inside` (image) on are `outside` (disk) and up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub inside: u32,
    pub outside: u32,
    pub len: u32,
}

/// How owners in an image relate to owners on disk. Inside the user namespace of a rootless build
/// the kernel maps already, so the identity is right there too.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum IdMap {
    /// The same numbers.
    #[default]
    Identity,
    /// Ranges, for users and for groups.
    Ranges { uids: Vec<IdRange>, gids: Vec<IdRange> },
    /// Everything is owned by the caller on disk and by root in the image: for hosts without
    /// subordinate ids. Owners other than root are lost.
    Single,
}

impl IdMap {
    /// The owner on disk; `None` where an id is not covered. `Some(None)` means: leave it as created.
    pub(crate) fn to_disk(&self, uid: u32, gid: u32) -> Result<Option<(u32, u32)>, (&'static str, u32)> {
        match self {
            IdMap::Identity => Ok(Some((uid, gid))),
            IdMap::Single => Ok(None),
            IdMap::Ranges { uids, gids } => Ok(Some((
                outside(uids, uid).ok_or(("user", uid))?,
                outside(gids, gid).ok_or(("group", gid))?,
            ))),
        }
    }

    /// The owner in the image.
    pub(crate) fn to_image(&self, uid: u32, gid: u32) -> Result<(u32, u32), (&'static str, u32)> {
        match self {
            IdMap::Identity => Ok((uid, gid)),
            IdMap::Single => Ok((0, 0)),
            IdMap::Ranges { uids, gids } => {
                Ok((inside(uids, uid).ok_or(("user", uid))?, inside(gids, gid).ok_or(("group", gid))?))
            }
        }
    }
}

fn outside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|r| {
        let offset = id.checked_sub(r.inside)?;
        if offset < r.len { r.outside.checked_add(offset) } else { None }
    })
}

fn inside(ranges: &[IdRange], id: u32) -> Option<u32> {
    ranges.iter().find_map(|r| {
        let offset = id.checked_sub(r.outside)?;
        if offset < r.len { r.inside.checked_add(offset) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_map_both_ways() {
        let r = vec![
            IdRange { inside: 0, outside: 1000, len: 1 },
            IdRange { inside: 1, outside: 100_000, len: 65536 },
        ];
        let map = IdMap::Ranges { uids: r.clone(), gids: r };
        assert_eq!(map.to_disk(0, 33), Ok(Some((1000, 100_032))));
        assert_eq!(map.to_image(1000, 100_032), Ok((0, 33)));
        assert_eq!(map.to_disk(65537, 0), Err(("user", 65537)));
        assert_eq!(map.to_image(0, 1000), Err(("user", 0)));
    }
}
