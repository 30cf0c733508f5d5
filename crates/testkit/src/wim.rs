//! Small Windows image files (WIM), not compressed.

use sha1::{Digest, Sha1};
use std::collections::BTreeMap;

/// A folder, file or reparse point.
#[derive(Debug, Clone, Default)]
pub struct WimNode {
    pub name: String,
    pub short_name: String,
    pub attributes: u32,
    pub descriptor: Option<Vec<u8>>,
    /// Creation, access and modification, in hundreds of nanoseconds since 1601.
    pub times: [u64; 3],
    /// Of a file; or what is behind the header of a reparse point.
    pub data: Vec<u8>,
    pub streams: Vec<(String, Vec<u8>)>,
    pub link_group: u64,
    /// Tag and flags.
    pub reparse: Option<(u32, u16)>,
    pub children: Vec<WimNode>,
}

impl WimNode {
    pub fn folder(name: &str, children: Vec<WimNode>) -> Self {
        WimNode { name: name.into(), attributes: 0x10, children, ..Self::default() }
    }

    pub fn file(name: &str, data: &[u8]) -> Self {
        WimNode { name: name.into(), attributes: 0x20, data: data.into(), ..Self::default() }
    }

    /// A link (tag `0xa000000c`) or mount point (`0xa0000003`) to a folder, as the file system keeps it and as people
    /// see it.
    pub fn link(name: &str, tag: u32, stored: &str, shown: &str) -> Self {
        let (stored, shown) = (utf16(stored), utf16(shown));
        let mut data = Vec::new();
        for n in [0, stored.len(), stored.len() + 2, shown.len()] {
            data.extend((n as u16).to_le_bytes());
        }
        if tag == 0xa000_000c {
            data.extend([0; 4]);
        }
        data.extend([&stored[..], &[0, 0], &shown, &[0, 0]].concat());
        WimNode { name: name.into(), attributes: 0x410, data, reparse: Some((tag, 0)), ..Self::default() }
    }
}

/// An image: what is in its element of the XML document, and its root.
#[derive(Debug, Clone)]
pub struct WimImage {
    pub xml: String,
    pub root: WimNode,
}

impl WimImage {
    /// A Windows for x86-64, of the year 2020.
    pub fn windows(name: &str, version: [u32; 4], root: WimNode) -> Self {
        let [major, minor, build, revision] = version;
        let xml = format!(
            "<NAME>{name}</NAME><LASTMODIFICATIONTIME><HIGHPART>0x01D5C036</HIGHPART><LOWPART>0x69050000</LOWPART>\
             </LASTMODIFICATIONTIME><WINDOWS><ARCH>9</ARCH><VERSION><MAJOR>{major}</MAJOR><MINOR>{minor}</MINOR>\
             <BUILD>{build}</BUILD><SPBUILD>{revision}</SPBUILD></VERSION></WINDOWS>"
        );
        WimImage { xml, root }
    }
}

/// A file of these images.
pub fn wim(images: &[WimImage]) -> Vec<u8> {
    let mut out = vec![0; 208];
    let mut blobs = Vec::new();
    let mut known = BTreeMap::new();
    let mut metadata = Vec::new();
    for image in images {
        let mut descriptors = Vec::new();
        collect(&image.root, &mut descriptors, &mut |data| {
            let hash: [u8; 20] = Sha1::digest(data).into();
            known.entry(hash).or_insert_with(|| {
                let place = append(&mut out, data, 0);
                blobs.push((place, hash));
            });
        });
        metadata.push(tree(&image.root, &descriptors));
    }
    for data in metadata {
        let place = append(&mut out, &data, 2);
        blobs.push((place, Sha1::digest(&data).into()));
    }
    let mut table = Vec::new();
    for (place, hash) in &blobs {
        table.extend(place);
        table.extend([1, 0, 1, 0, 0, 0]);
        table.extend(hash);
    }
    let table = append(&mut out, &table, 2);
    let elements: String =
        (1..).zip(images).map(|(n, i)| format!("<IMAGE INDEX=\"{n}\">{}</IMAGE>", i.xml)).collect();
    let xml = append(&mut out, &utf16(&format!("\u{feff}<WIM>{elements}</WIM>")), 2);
    out[..8].copy_from_slice(b"MSWIM\0\0\0");
    out[8..12].copy_from_slice(&208u32.to_le_bytes());
    out[12..16].copy_from_slice(&0x10d00u32.to_le_bytes());
    out[40..44].copy_from_slice(&[1, 0, 1, 0]);
    out[44..48].copy_from_slice(&(images.len() as u32).to_le_bytes());
    out[48..72].copy_from_slice(&table);
    out[72..96].copy_from_slice(&xml);
    out
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// Where the data are, as 24 bytes.
fn append(out: &mut Vec<u8>, data: &[u8], flags: u64) -> Vec<u8> {
    let size = data.len() as u64;
    let place = [size | flags << 56, out.len() as u64, size].iter().flat_map(|n| n.to_le_bytes()).collect();
    out.extend(data);
    place
}

fn collect(node: &WimNode, descriptors: &mut Vec<Vec<u8>>, blob: &mut impl FnMut(&[u8])) {
    if let Some(descriptor) = &node.descriptor
        && !descriptors.contains(descriptor)
    {
        descriptors.push(descriptor.clone());
    }
    for data in node.streams.iter().map(|(_, data)| data).chain([&node.data]).filter(|d| !d.is_empty()) {
        blob(data);
    }
    for child in &node.children {
        collect(child, descriptors, blob);
    }
}

/// The metadata of an image.
fn tree(root: &WimNode, descriptors: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = 8 + descriptors.iter().map(|d| 8 + d.len()).sum::<usize>();
    out.extend((length as u32).to_le_bytes());
    out.extend((descriptors.len() as u32).to_le_bytes());
    out.extend(descriptors.iter().flat_map(|d| (d.len() as u64).to_le_bytes()));
    out.extend(descriptors.concat());
    pad(&mut out);
    let at = entry(&mut out, root, descriptors);
    out.extend([0; 8]);
    children(&mut out, root, at, descriptors);
    out
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(8), 0);
}

/// The entries of a folder whose own entry is at `at`, and then those of its folders.
fn children(out: &mut Vec<u8>, node: &WimNode, at: usize, descriptors: &[Vec<u8>]) {
    if node.attributes & 0x410 != 0x10 {
        return;
    }
    let begin = out.len() as u64;
    out[at + 16..at + 24].copy_from_slice(&begin.to_le_bytes());
    let places: Vec<usize> = node.children.iter().map(|child| entry(out, child, descriptors)).collect();
    out.extend([0; 8]);
    for (child, at) in node.children.iter().zip(places) {
        children(out, child, at, descriptors);
    }
}

/// Returns where it is.
fn entry(out: &mut Vec<u8>, node: &WimNode, descriptors: &[Vec<u8>]) -> usize {
    let at = out.len();
    let hash =
        |data: &[u8]| -> [u8; 20] { if data.is_empty() { [0; 20] } else { Sha1::digest(data).into() } };
    let (name, short) = (utf16(&node.name), utf16(&node.short_name));
    let security = node.descriptor.as_ref().and_then(|d| descriptors.iter().position(|o| o == d));
    out.extend([0; 8]);
    out.extend(node.attributes.to_le_bytes());
    out.extend(security.map_or(u32::MAX, |n| n as u32).to_le_bytes());
    out.extend([0; 24]);
    out.extend(node.times.iter().flat_map(|t| t.to_le_bytes()));
    // With other streams the data are one of them, without a name.
    let has_streams = !node.streams.is_empty();
    out.extend(if has_streams { [0; 20] } else { hash(&node.data) });
    out.extend([0; 4]);
    match node.reparse {
        Some((tag, flags)) => {
            out.extend(tag.to_le_bytes());
            out.extend([0, 0]);
            out.extend(flags.to_le_bytes());
        }
        None => out.extend(node.link_group.to_le_bytes()),
    }
    let count = if has_streams { node.streams.len() + 1 } else { 0 };
    for n in [count, short.len(), name.len()] {
        out.extend((n as u16).to_le_bytes());
    }
    for name in [&name, &short].into_iter().filter(|n| !n.is_empty()) {
        out.extend(name);
        out.extend([0, 0]);
    }
    let length = (out.len() - at) as u64;
    out[at..at + 8].copy_from_slice(&length.to_le_bytes());
    pad(out);
    if has_streams {
        let own = [(String::new(), node.data.clone())];
        for (name, data) in own.iter().chain(&node.streams) {
            let (begin, name) = (out.len(), utf16(name));
            out.extend([0; 16]);
            out.extend(hash(data));
            out.extend((name.len() as u16).to_le_bytes());
            if !name.is_empty() {
                out.extend(&name);
                out.extend([0, 0]);
            }
            let length = (out.len() - begin) as u64;
            out[begin..begin + 8].copy_from_slice(&length.to_le_bytes());
            pad(out);
        }
    }
    at
}
