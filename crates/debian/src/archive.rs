//! `.deb` files: an `ar` with `debian-binary`, `control.tar.*` and `data.tar.*`.
//!
//! Source: deb(5), deb-split(5) for what is refused. Names that begin with `_` are skipped, as dpkg does.

use crate::error::{Error, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    None,
    Gzip,
    Xz,
    Zstd,
}

#[derive(Debug, Clone, Copy)]
struct Member {
    offset: u64,
    size: u64,
    packing: Packing,
}

/// An opened package archive.
#[derive(Debug)]
pub(crate) struct Deb {
    file: File,
    /// For messages.
    name: String,
    control: Member,
    data: Member,
}

/// The control files of a package by name: content and permission bits.
pub(crate) type ControlFiles = BTreeMap<String, (Vec<u8>, u32)>;

/// No package comes near this; it bounds what a damaged one can take.
const CONTROL_LIMIT: u64 = 64 << 20;
const DATA_LIMIT: u64 = 16 << 30;

/// A reader that fails when more than `left` bytes come out.
struct Bounded<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.left = self
            .left
            .checked_sub(n as u64)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it unpacks to too much"))?;
        Ok(n)
    }
}

impl Deb {
    pub fn open(path: &Path, name: &str) -> Result<Deb> {
        let file = File::open(path).map_err(Error::io("open", path))?;
        Deb::read(file, name)
    }

    fn read(file: File, name: &str) -> Result<Deb> {
        let damaged = |why: &str| Error::Archive { path: name.into(), why: why.into() };
        let end = file.metadata().map_err(|e| damaged(&e.to_string()))?.len();
        let mut magic = [0; 8];
        file.read_exact_at(&mut magic, 0).map_err(|_| damaged("it is too short"))?;
        if &magic != b"!<arch>\n" {
            return Err(damaged("it is no ar archive"));
        }
        let (mut control, mut data, mut version) = (None, None, None);
        let mut at = 8;
        while at < end {
            let mut head = [0; 60];
            file.read_exact_at(&mut head, at).map_err(|_| damaged("a member's header is cut off"))?;
            if &head[58..] != b"`\n" {
                return Err(damaged("a member's header is malformed"));
            }
            let text = |range: std::ops::Range<usize>| {
                std::str::from_utf8(&head[range]).map(|s| s.trim_end().to_string()).unwrap_or_default()
            };
            let member_name = text(0..16);
            let member_name = member_name.trim_end_matches('/');
            let size: u64 = text(48..58).parse().map_err(|_| damaged("a member's size is malformed"))?;
            let offset = at + 60;
            if size > end - offset {
                return Err(damaged("a member is cut off"));
            }
            let packed = |stem: &str| -> Result<Option<Packing>> {
                let Some(rest) = member_name.strip_prefix(stem) else { return Ok(None) };
                match rest {
                    "" => Ok(Some(Packing::None)),
                    ".gz" => Ok(Some(Packing::Gzip)),
                    ".xz" => Ok(Some(Packing::Xz)),
                    ".zst" => Ok(Some(Packing::Zstd)),
                    other => Err(damaged(&format!("its packing `{other}` is not supported"))),
                }
            };
            if version.is_none() {
                if member_name != "debian-binary" || size > 64 {
                    return Err(damaged("its first member is not debian-binary"));
                }
                let mut body = vec![0; size as usize];
                file.read_exact_at(&mut body, offset).map_err(|_| damaged("it is cut off"))?;
                if !body.starts_with(b"2.") {
                    return Err(damaged("its format is not version 2"));
                }
                version = Some(());
            } else if let Some(packing) = packed("control.tar")? {
                control.get_or_insert(Member { offset, size, packing });
            } else if let Some(packing) = packed("data.tar")? {
                data.get_or_insert(Member { offset, size, packing });
            } else if !member_name.starts_with('_') {
                return Err(damaged(&format!("it has an unknown member `{member_name}`")));
            }
            at = offset + size + size % 2;
        }
        match (control, data) {
            (Some(control), Some(data)) => Ok(Deb { file, name: name.into(), control, data }),
            (None, _) => Err(damaged("it has no control.tar")),
            (_, None) => Err(damaged("it has no data.tar")),
        }
    }

    pub fn damaged(&self, why: impl Into<String>) -> Error {
        Error::Archive { path: self.name.clone(), why: why.into() }
    }

    fn open_member(&self, member: Member, limit: u64) -> Result<tar::Archive<Box<dyn Read>>> {
        let damaged = |e: io::Error| self.damaged(e.to_string());
        let mut file = self.file.try_clone().map_err(damaged)?;
        file.seek(SeekFrom::Start(member.offset)).map_err(damaged)?;
        let raw = BufReader::with_capacity(128 << 10, file.take(member.size));
        let inner: Box<dyn Read> = match member.packing {
            Packing::None => Box::new(raw),
            Packing::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(raw)),
            Packing::Xz => {
                let stream =
                    liblzma::stream::Stream::new_stream_decoder(512 << 20, liblzma::stream::CONCATENATED)
                        .map_err(|e| self.damaged(e.to_string()))?;
                Box::new(liblzma::bufread::XzDecoder::new_stream(raw, stream))
            }
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(raw).map_err(damaged)?;
                decoder.window_log_max(27).map_err(damaged)?;
                Box::new(decoder)
            }
        };
        Ok(tar::Archive::new(Box::new(Bounded { inner, left: limit })))
    }

    /// The files of `control.tar`: plain names only.
    pub fn control(&self) -> Result<ControlFiles> {
        let damaged = |e: io::Error| self.damaged(e.to_string());
        let mut archive = self.open_member(self.control, CONTROL_LIMIT)?;
        let mut files = ControlFiles::new();
        for entry in archive.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let path = entry.path_bytes().into_owned();
            let path =
                String::from_utf8(path).map_err(|_| self.damaged("a control file's name is no text"))?;
            let name = path.strip_prefix("./").unwrap_or(&path);
            let plain = !name.is_empty()
                && !name.starts_with('.')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b));
            if !plain {
                return Err(self.damaged("a control file's name is malformed"));
            }
            let mode = entry.header().mode().map_err(damaged)? & 0o777;
            let mut content = Vec::new();
            entry.read_to_end(&mut content).map_err(damaged)?;
            files.insert(name.to_string(), (content, mode));
        }
        if !files.contains_key("control") {
            return Err(self.damaged("it has no control file"));
        }
        Ok(files)
    }

    /// The tar of the files to install.
    pub fn data(&self) -> Result<tar::Archive<Box<dyn Read>>> {
        self.open_member(self.data, DATA_LIMIT)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::io::Write;

    /// Builds an ar from members.
    pub(crate) fn ar(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut all = b"!<arch>\n".to_vec();
        for (name, body) in members {
            all.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len()).bytes(),
            );
            all.extend_from_slice(body);
            if body.len() % 2 == 1 {
                all.push(b'\n');
            }
        }
        all
    }

    pub(crate) fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, body) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(body.len() as u64);
            header.set_mode(0o755);
            header.set_entry_type(tar::EntryType::Regular);
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            builder.append(&header, *body).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn open(bytes: &[u8]) -> Result<Deb> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        Deb::read(file, "x.deb")
    }

    #[test]
    fn every_packing_is_read() {
        let control = tar_of(&[("./control", b"Package: x\n"), ("./postinst", b"#!/bin/sh\n")]);
        let gz = {
            let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            e.write_all(&control).unwrap();
            e.finish().unwrap()
        };
        let xz = {
            let mut e = liblzma::write::XzEncoder::new(Vec::new(), 1);
            e.write_all(&control).unwrap();
            e.finish().unwrap()
        };
        let zst = zstd::stream::encode_all(&control[..], 1).unwrap();
        for (suffix, body) in [("", &control), (".gz", &gz), (".xz", &xz), (".zst", &zst)] {
            let deb = open(&ar(&[
                ("debian-binary", b"2.0\n"),
                ("_gpgorigin", b"x"),
                (&format!("control.tar{suffix}"), body),
                (&format!("data.tar{suffix}"), body),
            ]))
            .unwrap();
            let files = deb.control().unwrap();
            assert_eq!(files["control"].0, b"Package: x\n", "{suffix}");
            assert_eq!(files["postinst"].1, 0o755);
            assert_eq!(deb.data().unwrap().entries().unwrap().count(), 2);
        }
    }

    #[test]
    fn damage_is_named() {
        let good = ar(&[("debian-binary", b"2.0\n"), ("control.tar", b""), ("data.tar", b"")]);
        assert!(open(&good).is_ok());
        for len in 0..good.len() {
            assert!(open(&good[..len]).is_err(), "{len}");
        }
        assert!(open(&ar(&[("control.tar", b""), ("data.tar", b"")])).is_err());
        assert!(open(&ar(&[("debian-binary", b"3.0\n"), ("control.tar", b""), ("data.tar", b"")])).is_err());
        assert!(
            open(&ar(&[("debian-binary", b"2.0\n"), ("control.tar.lz4", b""), ("data.tar", b"")])).is_err()
        );
        let evil = tar_of(&[("../control", b"")]);
        let deb =
            open(&ar(&[("debian-binary", b"2.0\n"), ("control.tar", &evil), ("data.tar", b"")])).unwrap();
        assert!(deb.control().is_err());
    }
}
