//! Windows image files.

use std::io::Cursor;
use wim::{Kind, Tree, Wim};

/// Any bytes as a Windows image file: a tree has its folders first and paths for all, and data are those that were put in.
pub fn wim(bytes: &[u8]) {
    let Ok(mut file) = Wim::open(Cursor::new(bytes)) else { return };
    let indices: Vec<u32> = file.images().keys().copied().take(4).collect();
    for index in indices {
        let Ok(tree) = file.tree(index) else { continue };
        check(&tree);
        for entry in tree.entries.iter().take(64) {
            let (Kind::File { data: Some(hash) } | Kind::Reparse { data: Some(hash), .. }) = entry.kind
            else {
                continue;
            };
            let _ = file.read(&hash, 1 << 20);
        }
    }
}

/// Any bytes as the metadata of an image, whose SHA-1 nobody asks for.
pub fn tree(bytes: &[u8]) {
    if let Ok(tree) = Tree::parse(bytes.to_vec()) {
        assert!(tree.entries.len() <= bytes.len() / 102);
        check(&tree);
    }
    // The last bytes as a reparse point.
    if let Some((tag, data)) = bytes.split_last_chunk::<8>().map(|(_, last)| last.split_at(1)) {
        let _ = wim::Target::parse(0xa000_0003 + u32::from(tag[0] & 9), data);
    }
}

fn check(tree: &Tree) {
    for (i, entry) in tree.entries.iter().enumerate() {
        let parent = entry.parent as usize;
        assert!(i == 0 || parent < i && tree.entries[parent].kind == Kind::Folder);
        assert!(!entry.name.contains(['/', '\\', ':', '\0']) && !matches!(entry.name.as_str(), "." | ".."));
        assert!(tree.path(i).ends_with(&entry.name));
        let _ = tree.descriptor(entry);
    }
}
