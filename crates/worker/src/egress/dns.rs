//! A name server (RFC 1035) for a step under `--allow-net`: addresses for allowed names, no such name for others.

use super::Shared;
use std::net::UdpSocket;

const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const NO_SUCH_NAME: u8 = 3;
/// Seconds that an answer may be kept.
const TTL: u32 = 60;

/// Answers one datagram. What is no question stays unanswered.
pub(super) fn answer(shared: &Shared, socket: &UdpSocket) {
    let mut buffer = [0; 1500];
    if let Ok((n, from)) = socket.recv_from(&mut buffer)
        && let Some(reply) = reply(shared, &buffer[..n])
    {
        // A lost answer is asked for again.
        let _ = socket.send_to(&reply, from);
    }
}

/// The reply to a query with one question.
pub(super) fn reply(shared: &Shared, query: &[u8]) -> Option<Vec<u8>> {
    let (header, rest) = query.split_at_checked(12)?;
    let is_query = header[2] & 0xf8 == 0;
    if !is_query || header[4..6] != [0, 1] {
        return None;
    }
    let (name, length) = name(rest)?;
    let question = rest.get(..length + 4)?;
    let number = |at: usize| u16::from_be_bytes([question[at], question[at + 1]]);
    let (kind, class) = (number(length), number(length + 2));

    let address = shared.addresses.iter().find(|(n, _)| *n == name).map(|(_, a)| *a);
    let code = match address {
        Some(_) => 0,
        None => {
            if shared.list.knows(&name) {
                shared.note(&name);
            } else {
                shared.refuse(&name);
            }
            NO_SUCH_NAME
        }
    };
    let address = address.filter(|_| kind == TYPE_A && class == CLASS_IN);
    let mut out = header[..2].to_vec();
    // A response; recursion as desired and available.
    out.extend([0x84 | header[2] & 1, 0x80 | code, 0, 1, 0, u8::from(address.is_some()), 0, 0, 0, 0]);
    out.extend_from_slice(question);
    if let Some(address) = address {
        // The name is the one of the question, at offset 12.
        out.extend([0xc0, 12]);
        out.extend(TYPE_A.to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(TTL.to_be_bytes());
        out.extend([0, 4]);
        out.extend(address.octets());
    }
    Some(out)
}

/// A name without compression, and the bytes it takes.
fn name(bytes: &[u8]) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut at = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        at += 1;
        if length == 0 {
            return Some((out, at));
        }
        let label = bytes.get(at..at + length).filter(|_| length < 64 && out.len() < 256)?;
        if !out.is_empty() {
            out.push('.');
        }
        out.extend(label.iter().map(|b| char::from(b.to_ascii_lowercase())));
        at += length;
    }
}
