//! The HTTP proxy (RFC 9110, 9112) of a step under `--allow-net`: one request or tunnel a connection.

use super::{Shared, connect, join, list};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest head of a request.
const MAX_HEAD: usize = 64 * 1024;
/// How long a client may take for its head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What a request's first line asks for.
struct Target<'a> {
    host: &'a str,
    port: u16,
    /// `None` for a tunnel; else method, path and version for the server.
    line: Option<(&'a str, &'a str, &'a str)>,
}

pub(super) fn serve(shared: &Shared, mut client: TcpStream) -> io::Result<()> {
    client.set_read_timeout(Some(HEAD_TIMEOUT))?;
    let Some((head, body)) = read_head(&mut client)? else {
        return refuse(&mut client, "400 Bad Request", "this is no request of HTTP");
    };
    client.set_read_timeout(None)?;
    let Some(target) = head.split("\r\n").next().and_then(parse) else {
        return refuse(&mut client, "400 Bad Request", "this is no request to a proxy");
    };
    let place = format!("{}:{}", list::normal(target.host), target.port);
    if !shared.list.allows(target.host, target.port) {
        shared.refuse(&place);
        return refuse(&mut client, "403 Forbidden", &format!("{place} is not on the list of --allow-net"));
    }
    let mut server = match connect(target.host, target.port) {
        Ok(server) => server,
        Err(e) => return refuse(&mut client, "502 Bad Gateway", &format!("can't connect to {place}: {e}")),
    };
    match target.line {
        None => client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?,
        Some((method, path, version)) => {
            // A further request on this connection could be meant for another host.
            let mut out = format!("{method} {path} {version}\r\nConnection: close\r\n");
            for line in head.split("\r\n").skip(1).filter(|l| !l.is_empty() && !is_hop(l)) {
                out.push_str(line);
                out.push_str("\r\n");
            }
            out.push_str("\r\n");
            server.write_all(out.as_bytes())?;
        }
    }
    server.write_all(&body)?;
    join(&client, &server)
}

/// The head, and what of the body came with it. `None` if it never ends or is no text.
fn read_head(client: &mut TcpStream) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let searched = bytes.len().saturating_sub(3);
        let n = client.read(&mut buffer)?;
        if n == 0 {
            return Ok(None);
        }
        bytes.extend_from_slice(&buffer[..n]);
        if let Some(at) = bytes[searched..].windows(4).position(|w| w == b"\r\n\r\n") {
            let body = bytes.split_off(searched + at + 4);
            return Ok(String::from_utf8(bytes).ok().map(|head| (head, body)));
        }
        if bytes.len() > MAX_HEAD {
            return Ok(None);
        }
    }
}

fn parse(line: &str) -> Option<Target<'_>> {
    let mut words = line.split(' ');
    let (method, uri, version) = (words.next()?, words.next()?, words.next()?);
    if words.next().is_some() || !version.starts_with("HTTP/1.") {
        return None;
    }
    if method == "CONNECT" {
        let (host, port) = list::split_port(uri)?;
        return Some(Target { host, port: port?, line: None });
    }
    let scheme = uri.get(..7).filter(|s| s.eq_ignore_ascii_case("http://"))?;
    let rest = &uri[scheme.len()..];
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let (host, port) = list::split_port(authority)?;
    if host.is_empty() || host.contains('@') || path.starts_with('?') {
        return None;
    }
    let path = if path.is_empty() { "/" } else { path };
    Some(Target { host, port: port.unwrap_or(80), line: Some((method, path, version)) })
}

/// Fields that are between a client and its proxy.
fn is_hop(line: &str) -> bool {
    let name = line.split(':').next().unwrap_or_default();
    ["connection", "proxy-connection", "proxy-authorization", "keep-alive"]
        .iter()
        .any(|hop| name.eq_ignore_ascii_case(hop))
}

fn refuse(client: &mut TcpStream, status: &str, text: &str) -> io::Result<()> {
    let body = format!("ctrbuild: {text}\n");
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all(head.as_bytes())?;
    client.write_all(body.as_bytes())
}
