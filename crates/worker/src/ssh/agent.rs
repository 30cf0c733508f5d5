//! The ssh agent protocol (draft-ietf-sshm-ssh-agent), the part that steps may use.
//!
//! A message is a length of 4 bytes (big endian), a byte for its type, and fields; a string field is a length
//! and bytes.

use std::io::{self, Read, Write};

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// Longest message, as in OpenSSH.
const MAX_MESSAGE: usize = 256 * 1024;
/// Most keys of a list, as in OpenSSH.
const MAX_KEYS: u32 = 2048;

/// What an agent can do for a step.
pub trait Answer {
    /// Public keys and their comments.
    fn list(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>>;
    /// A signature by the key of this public blob; `None` if the agent refuses.
    fn sign(&mut self, key: &[u8], data: &[u8], flags: u32) -> io::Result<Option<Vec<u8>>>;
}

/// Answers requests on `client` until it closes. All requests but listing and signing are refused, and nothing
/// of a request is passed on unparsed.
pub fn serve(mut client: impl Read + Write, agent: &mut impl Answer) -> io::Result<()> {
    while let Some(request) = receive(&mut client)? {
        let reply = answer(&request, agent)?.unwrap_or_else(|| vec![FAILURE]);
        send(&mut client, &reply)?;
    }
    Ok(())
}

/// `None` is a refusal.
fn answer(request: &[u8], agent: &mut impl Answer) -> io::Result<Option<Vec<u8>>> {
    let mut fields = Fields(request);
    match fields.byte() {
        Some(REQUEST_IDENTITIES) => {
            let keys = agent.list()?;
            let mut out = vec![IDENTITIES_ANSWER];
            out.extend((keys.len() as u32).to_be_bytes());
            for (blob, comment) in keys {
                put(&mut out, &blob);
                put(&mut out, &comment);
            }
            Ok(Some(out))
        }
        Some(SIGN_REQUEST) => {
            let (Some(key), Some(data), Some(flags)) = (fields.string(), fields.string(), fields.number())
            else {
                return Ok(None);
            };
            Ok(agent.sign(key, data, flags)?.map(|signature| {
                let mut out = vec![SIGN_RESPONSE];
                put(&mut out, &signature);
                out
            }))
        }
        _ => Ok(None),
    }
}

/// Another agent, asked in the step's place.
pub struct Upstream<S>(S);

impl<S: Read + Write> Upstream<S> {
    pub fn new(stream: S) -> Self {
        Upstream(stream)
    }

    fn ask(&mut self, request: &[u8]) -> io::Result<Vec<u8>> {
        send(&mut self.0, request)?;
        receive(&mut self.0)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl<S: Read + Write> Answer for Upstream<S> {
    fn list(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
        let reply = self.ask(&[REQUEST_IDENTITIES])?;
        let mut fields = Fields(&reply);
        if fields.byte() != Some(IDENTITIES_ANSWER) {
            return Ok(Vec::new());
        }
        let count = fields.number().filter(|n| *n <= MAX_KEYS).ok_or_else(malformed)?;
        (0..count)
            .map(|_| {
                let (blob, comment) = (fields.string(), fields.string());
                Ok((blob.ok_or_else(malformed)?.to_vec(), comment.ok_or_else(malformed)?.to_vec()))
            })
            .collect()
    }
    fn sign(&mut self, key: &[u8], data: &[u8], flags: u32) -> io::Result<Option<Vec<u8>>> {
        let mut request = vec![SIGN_REQUEST];
        put(&mut request, key);
        put(&mut request, data);
        request.extend(flags.to_be_bytes());
        let reply = self.ask(&request)?;
        let mut fields = Fields(&reply);
        Ok(match fields.byte() {
            Some(SIGN_RESPONSE) => fields.string().map(<[u8]>::to_vec),
            _ => None,
        })
    }
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed message of an ssh agent")
}

/// Appends a string field.
pub fn put(out: &mut Vec<u8>, field: &[u8]) {
    out.extend((field.len() as u32).to_be_bytes());
    out.extend_from_slice(field);
}

/// Reads fields from the front; `None` where they end early.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(taken)
    }
    pub fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|b| b[0])
    }
    pub fn number(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_be_bytes)
    }
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.number()?;
        self.take(usize::try_from(len).ok()?)
    }
}

/// `None` at the end of the stream.
fn receive(from: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    let length = u32::from_be_bytes(length) as usize;
    if length == 0 || length > MAX_MESSAGE {
        return Err(malformed());
    }
    let mut message = vec![0; length];
    from.read_exact(&mut message)?;
    Ok(Some(message))
}

fn send(to: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let mut framed = Vec::with_capacity(message.len() + 4);
    put(&mut framed, message);
    to.write_all(&framed)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Knows one key, and counts what it is asked.
    struct Known(usize);
    impl Answer for Known {
        fn list(&mut self) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
            self.0 += 1;
            Ok(vec![(b"blob".to_vec(), b"me@here".to_vec())])
        }
        fn sign(&mut self, key: &[u8], data: &[u8], flags: u32) -> io::Result<Option<Vec<u8>>> {
            self.0 += 1;
            Ok((key == b"blob").then(|| [data, &flags.to_be_bytes()].concat()))
        }
    }

    #[test]
    fn only_lists_and_signatures() {
        let mut agent = Known(0);
        // Add, remove, remove all, smartcards, lock, unlock, constrained adds, extensions, and version 1.
        for kind in (0..=255u8).filter(|k| ![REQUEST_IDENTITIES, SIGN_REQUEST].contains(k)) {
            assert_eq!(
                answer(&[kind, 0, 0, 0, 4, b'b', b'l', b'o', b'b'], &mut agent).unwrap(),
                None,
                "{kind}"
            );
        }
        assert_eq!(answer(&[], &mut agent).unwrap(), None);
        assert_eq!(agent.0, 0, "nothing was passed on");
        assert_eq!(answer(&[SIGN_REQUEST, 0, 0, 0, 200, 1], &mut agent).unwrap(), None, "cut short");
    }

    #[test]
    fn a_proxy_says_what_the_agent_says() {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || serve(theirs, &mut Known(0)));
        let mut proxy = Upstream::new(ours);
        assert_eq!(proxy.list().unwrap(), [(b"blob".to_vec(), b"me@here".to_vec())]);
        assert_eq!(proxy.sign(b"blob", b"data", 2).unwrap().unwrap(), b"data\0\0\0\x02");
        assert_eq!(proxy.sign(b"other", b"data", 0).unwrap(), None);
        drop(proxy);
        server.join().unwrap().unwrap();
    }

    #[test]
    fn lengths_that_lie_end_the_connection() {
        for bytes in [&[0, 0, 0, 0][..], &[0xff; 8], &[0, 0, 0, 9, 11]] {
            let mut stream = io::Cursor::new(bytes.to_vec());
            assert!(serve(&mut stream, &mut Known(0)).is_err(), "{bytes:?}");
        }
    }
}
