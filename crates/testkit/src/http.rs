//! As much of HTTP/1.1 as tests need.

use std::io;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

pub(crate) struct Request {
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
    pub fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        find_pair(query, name)
    }
}

/// A value of `a=1&b=2`, decoded.
pub(crate) fn find_pair(text: &str, name: &str) -> Option<String> {
    text.split('&').find_map(|p| p.split_once('=').filter(|(n, _)| *n == name)).map(|(_, v)| unescape(v))
}

fn unescape(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(b) = bytes.next() {
        let hex = |b: Option<u8>| (b.unwrap_or(b'0') as char).to_digit(16).unwrap_or(0) as u8;
        match b {
            b'%' => {
                let high = hex(bytes.next());
                out.push(high * 16 + hex(bytes.next()));
            }
            b'+' => out.push(b' '),
            b => out.push(b),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    pub fn new(status: u16) -> Self {
        Response { status, ..Response::default() }
    }
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.set(name, &value.to_string());
        self
    }
    pub fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = bytes.into();
        self
    }
    pub fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(n, _)| n != name);
        self.headers.push((name.to_string(), value.to_string()));
    }
    /// Status line and headers; the length is that of the body unless it was set.
    pub fn head(&self) -> Vec<u8> {
        let mut out = format!("HTTP/1.1 {} X\r\n", self.status);
        for (n, v) in &self.headers {
            out.push_str(&format!("{n}: {v}\r\n"));
        }
        if !self.headers.iter().any(|(n, _)| n == "content-length") {
            out.push_str(&format!("content-length: {}\r\n", self.body.len()));
        }
        out.push_str("\r\n");
        out.into_bytes()
    }
}

/// A request without its body; `None` at the end of the connection.
pub(crate) async fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().into(), words.next().unwrap_or_default().into());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(':') {
            Some((n, v)) => headers.push((n.to_ascii_lowercase(), v.trim().to_string())),
            None => break,
        }
    }
    Ok(Some(Request { method, target, headers, body: Vec::new() }))
}

pub(crate) async fn read_body(stream: &mut BufReader<TcpStream>, request: &mut Request) -> io::Result<()> {
    if request.header("transfer-encoding").is_some_and(|t| t.contains("chunked")) {
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let size = usize::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
            let start = request.body.len();
            request.body.resize(start + size, 0);
            stream.read_exact(&mut request.body[start..]).await?;
            stream.read_line(&mut String::new()).await?;
            if size == 0 {
                return Ok(());
            }
        }
    }
    let length = request.header("content-length").and_then(|v| v.parse().ok()).unwrap_or(0);
    request.body.resize(length, 0);
    stream.read_exact(&mut request.body).await?;
    Ok(())
}

pub(crate) async fn write_all(stream: &mut BufReader<TcpStream>, bytes: &[u8]) -> io::Result<()> {
    stream.get_mut().write_all(bytes).await?;
    stream.get_mut().flush().await
}
