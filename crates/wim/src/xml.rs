//! The XML document of a file: what its images are.
//!
//! Strict about form, and deaf to what is not asked for. Deliberately not here: document types, namespaces, anything
//! that would make a small document large.

use crate::error::malformed;
use crate::header::utf16;
use crate::{ImageInfo, Result, WindowsInfo};
use std::collections::BTreeMap;

/// Most bytes of the document.
pub const MOST: u64 = 16 << 20;
/// Elements in each other.
const DEEPEST: usize = 32;
/// Most bytes of a value that is kept.
const LONGEST: usize = 4096;

fn bad(reason: &'static str) -> crate::Error {
    malformed("XML document", reason)
}

/// The images that a document (UTF-16, little-endian) tells of, by their numbers.
pub fn parse(bytes: &[u8]) -> Result<BTreeMap<u32, ImageInfo>> {
    let text = decode(bytes)?;
    let mut images = BTreeMap::new();
    let mut reader = Reader { rest: text.strip_prefix('\u{feff}').unwrap_or(&text) };
    let mut path: Vec<&str> = Vec::new();
    let mut image: Option<(u32, ImageInfo)> = None;
    let mut value = String::new();
    let mut seen_root = false;
    while let Some(event) = reader.next()? {
        match event {
            Event::Open { name, attributes, is_empty } => {
                if path.is_empty() && std::mem::replace(&mut seen_root, true) {
                    return Err(bad("it has several roots"));
                }
                if path.len() == DEEPEST {
                    return Err(bad("its elements are too deep in each other"));
                }
                value.clear();
                if path == ["WIM"] && name == "IMAGE" {
                    let index = attribute(attributes, "INDEX")?.and_then(|i| i.parse().ok());
                    image = Some((index.ok_or_else(|| bad("an image has no number"))?, ImageInfo::default()));
                }
                path.push(name);
                if is_empty {
                    close(&mut path, &mut image, &mut images, "")?;
                }
            }
            Event::Close(name) => {
                if path.last() != Some(&name) {
                    return Err(bad("an element ends that was not begun"));
                }
                close(&mut path, &mut image, &mut images, value.trim())?;
                value.clear();
            }
            Event::Text(text) => {
                if path.is_empty() && !text.trim().is_empty() {
                    return Err(bad("there is text outside of it"));
                }
                if value.len() <= LONGEST {
                    unescape(text, &mut value)?;
                }
            }
            Event::Raw(text) => value.push_str(text),
        }
    }
    if !path.is_empty() || !seen_root {
        return Err(bad("it ends early"));
    }
    Ok(images)
}

/// An element ends that has `value`.
fn close(
    path: &mut Vec<&str>,
    image: &mut Option<(u32, ImageInfo)>,
    images: &mut BTreeMap<u32, ImageInfo>,
    value: &str,
) -> Result<()> {
    let within = path.get(2..).unwrap_or_default();
    if within.is_empty() {
        if path.len() == 2
            && let Some((index, info)) = image.take()
            && images.insert(index, info).is_some()
        {
            return Err(bad("two images have the same number"));
        }
    } else if let Some((_, info)) = image {
        note(info, within, value)?;
    }
    path.pop();
    Ok(())
}

/// Take what is of interest.
fn note(info: &mut ImageInfo, path: &[&str], value: &str) -> Result<()> {
    if value.len() > LONGEST {
        return Ok(());
    }
    let text = |field: &mut String| *field = value.to_string();
    let number = || value.parse().map_err(|_| bad("a number is none"));
    let half = || u32::from_str_radix(value.trim_start_matches("0x"), 16).map_err(|_| bad("a time is none"));
    let windows = || info_windows(path);
    match path {
        ["NAME"] => text(&mut info.name),
        ["DISPLAYNAME"] => text(&mut info.display_name),
        ["DESCRIPTION"] => text(&mut info.description),
        [time @ ("CREATIONTIME" | "LASTMODIFICATIONTIME"), part @ ("HIGHPART" | "LOWPART")] => {
            let shift = if *part == "HIGHPART" { 32 } else { 0 };
            let time = if *time == "CREATIONTIME" { &mut info.created } else { &mut info.modified };
            time.0 = time.0 & !(u64::from(u32::MAX) << shift) | u64::from(half()?) << shift;
        }
        ["WINDOWS", ..] if windows() => {
            let of = info.windows.get_or_insert_with(WindowsInfo::default);
            match &path[1..] {
                ["ARCH"] => of.architecture = Some(number()?),
                ["PRODUCTNAME"] => text(&mut of.product),
                ["EDITIONID"] => text(&mut of.edition),
                ["VERSION", "MAJOR"] => of.version.0 = number()?,
                ["VERSION", "MINOR"] => of.version.1 = number()?,
                ["VERSION", "BUILD"] => of.version.2 = number()?,
                ["VERSION", "SPBUILD"] => of.version.3 = number()?,
                _ => {}
            }
        }
        _ => {}
    }
    Ok(())
}

/// Whether an element of WINDOWS is one that is asked for.
fn info_windows(path: &[&str]) -> bool {
    matches!(path[1..], ["ARCH" | "PRODUCTNAME" | "EDITIONID"] | ["VERSION", _])
}

fn decode(bytes: &[u8]) -> Result<String> {
    if !bytes.len().is_multiple_of(2) {
        return Err(bad("it ends in a character"));
    }
    let text = utf16(bytes).ok_or_else(|| bad("it is not UTF-16"))?;
    // Some writers end it as a string of C.
    Ok(text.trim_end_matches('\0').to_string())
}

enum Event<'t> {
    Open {
        name: &'t str,
        attributes: &'t str,
        is_empty: bool,
    },
    Close(&'t str),
    /// With entities.
    Text(&'t str),
    Raw(&'t str),
}

struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn next(&mut self) -> Result<Option<Event<'t>>> {
        loop {
            let Some(tag) = self.rest.strip_prefix('<') else {
                if self.rest.is_empty() {
                    return Ok(None);
                }
                let (text, rest) = self.rest.split_at(self.rest.find('<').unwrap_or(self.rest.len()));
                self.rest = rest;
                return Ok(Some(Event::Text(text)));
            };
            if let Some(comment) = tag.strip_prefix("!--") {
                self.until(comment, "-->")?;
            } else if let Some(raw) = tag.strip_prefix("![CDATA[") {
                return self.until(raw, "]]>").map(|t| Some(Event::Raw(t)));
            } else if tag.starts_with('!') {
                return Err(bad("it has a document type"));
            } else if let Some(instruction) = tag.strip_prefix('?') {
                self.until(instruction, "?>")?;
            } else if let Some(name) = tag.strip_prefix('/') {
                return self.until(name, ">").map(|n| Some(Event::Close(n.trim_end())));
            } else {
                return self.open(tag).map(Some);
            }
        }
    }

    fn until(&mut self, text: &'t str, end: &str) -> Result<&'t str> {
        let (text, rest) = text.split_once(end).ok_or_else(|| bad("it ends early"))?;
        self.rest = rest;
        Ok(text)
    }

    fn open(&mut self, tag: &'t str) -> Result<Event<'t>> {
        let mut quote = None;
        let end = tag.find(|c| match quote {
            Some(q) if c == q => {
                quote = None;
                false
            }
            Some(_) => false,
            None if c == '"' || c == '\'' => {
                quote = Some(c);
                false
            }
            None => c == '>',
        });
        let end = end.ok_or_else(|| bad("it ends early"))?;
        self.rest = &tag[end + 1..];
        let inside = &tag[..end];
        let is_empty = inside.ends_with('/');
        let inside = inside.strip_suffix('/').unwrap_or(inside);
        let (name, attributes) = inside.split_once(char::is_whitespace).unwrap_or((inside, ""));
        if name.is_empty() || name.contains(['<', '&', '"', '\'', '=']) {
            return Err(bad("an element has no name"));
        }
        Ok(Event::Open { name, attributes, is_empty })
    }
}

fn attribute(attributes: &str, wanted: &str) -> Result<Option<String>> {
    let mut rest = attributes.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or_else(|| bad("an attribute has no value"))?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| *c == '"' || *c == '\'');
        let quote = quote.ok_or_else(|| bad("the value of an attribute has no quotes"))?;
        let (value, after) =
            after[1..].split_once(quote).ok_or_else(|| bad("the value of an attribute has no end"))?;
        if name.trim() == wanted {
            let mut out = String::new();
            unescape(value, &mut out)?;
            return Ok(Some(out));
        }
        rest = after.trim_start();
    }
    Ok(None)
}

/// Append `text` with its entities resolved.
fn unescape(text: &str, out: &mut String) -> Result<()> {
    let mut parts = text.split('&');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (entity, rest) = part.split_once(';').ok_or_else(|| bad("an entity has no end"))?;
        let c = match entity {
            "lt" => '<',
            "gt" => '>',
            "amp" => '&',
            "quot" => '"',
            "apos" => '\'',
            _ => {
                let code = match (entity.strip_prefix("#x"), entity.strip_prefix('#')) {
                    (Some(hex), _) => u32::from_str_radix(hex, 16).ok(),
                    (_, Some(decimal)) => decimal.parse().ok(),
                    _ => None,
                };
                code.and_then(char::from_u32).ok_or_else(|| bad("an entity is unknown"))?
            }
        };
        out.push(c);
        out.push_str(rest);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FileTime;

    fn read(text: &str) -> Result<BTreeMap<u32, ImageInfo>> {
        let bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        parse(&bytes)
    }

    #[test]
    fn images_and_what_they_are() {
        let text = "\u{feff}<?xml version=\"1.0\"?><!-- x --><WIM><TOTALBYTES>9</TOTALBYTES>\
            <IMAGE a='>' INDEX = \"2\"><NAME> A &amp; B&#33; </NAME><DESCRIPTION><![CDATA[a<b]]></DESCRIPTION>\
            <CREATIONTIME><HIGHPART>0x01D5A2</HIGHPART><LOWPART>0x0000000F</LOWPART></CREATIONTIME>\
            <WINDOWS><ARCH>9</ARCH><VERSION><MAJOR>10</MAJOR><MINOR>0</MINOR><BUILD>20348</BUILD>\
            <SPBUILD>587</SPBUILD><SPLEVEL>0</SPLEVEL></VERSION><LANGUAGES><LANGUAGE>en-US</LANGUAGE></LANGUAGES>\
            <PRODUCTNAME>Microsoft</PRODUCTNAME></WINDOWS></IMAGE><IMAGE INDEX='1'/></WIM>\0";
        let images = read(text).unwrap();
        assert_eq!(images.keys().collect::<Vec<_>>(), [&1, &2]);
        let image = &images[&2];
        assert_eq!((image.name.as_str(), image.description.as_str()), ("A & B!", "a<b"));
        assert_eq!(image.created, FileTime(0x1d5a2 << 32 | 15));
        let windows = image.windows.as_ref().unwrap();
        assert_eq!((windows.architecture, windows.version), (Some(9), (10, 0, 20348, 587)));
        assert_eq!(images[&1].windows, None);
    }

    #[test]
    fn what_is_no_document_is_refused() {
        for text in [
            "",
            "<WIM>",
            "<WIM></wim>",
            "<WIM/><WIM/>",
            "x<WIM/>",
            "<WIM><IMAGE></IMAGE></WIM>",
            "<WIM><IMAGE INDEX=1></IMAGE></WIM>",
            "<WIM><IMAGE INDEX='1'/><IMAGE INDEX='1'/></WIM>",
            "<WIM>&lol;</WIM>",
            "<WIM>&amp</WIM>",
            "<!DOCTYPE WIM><WIM/>",
            "<WIM><!-- </WIM>",
            "<WIM a='></WIM>",
            "< WIM></WIM>",
            "<WIM><IMAGE INDEX='1'><WINDOWS><ARCH>x</ARCH></WINDOWS></IMAGE></WIM>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&"<a>".repeat(100)).is_err());
        assert!(parse(&[0x00, 0xd8, 0x20, 0x00]).is_err());
        assert!(parse(b"<").is_err());
    }
}
