//! The outer form of messages: headers, an empty line, and as many bytes of JSON as a header says.
//!
//! A message that can't be read costs itself alone: reading goes on behind it. Not here: what is in the JSON.

use std::io::{self, BufRead, Read, Write};

/// Longest line of a header.
const MAX_HEADER: u64 = 8 << 10;
/// Longest message.
const MAX_BODY: usize = 256 << 20;

/// Why no message came.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A block of headers without a usable length. Reading may go on.
    #[error("the header of a message has no Content-Length that can be used")]
    Header,
    /// The other side ended inside of a message, or reading failed.
    #[error("can't read a message")]
    Io(#[from] io::Error),
}

/// Reads one message; `None` where the other side has ended.
///
/// # Errors
/// See [`FrameError`].
pub fn read(reader: &mut impl BufRead) -> Result<Option<Vec<u8>>, FrameError> {
    let mut length: Option<usize> = None;
    let mut started = false;
    loop {
        let mut line = Vec::new();
        let got = Read::take(&mut *reader, MAX_HEADER).read_until(b'\n', &mut line)?;
        if got == 0 {
            return match started {
                true => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                false => Ok(None),
            };
        }
        if line.last() != Some(&b'\n') {
            return Err(match got as u64 == MAX_HEADER {
                true => FrameError::Header,
                false => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
            });
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if text.is_empty() {
            match started {
                true => break,
                // Blank lines between messages are somebody's habit.
                false => continue,
            }
        }
        started = true;
        if let Some((name, value)) = text.split_once(':')
            && name.trim().eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().ok();
        }
    }
    let length = length.filter(|length| *length <= MAX_BODY).ok_or(FrameError::Header)?;
    let mut body = Vec::new();
    let got = Read::take(&mut *reader, length as u64).read_to_end(&mut body)?;
    match got == length {
        true => Ok(Some(body)),
        false => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
    }
}

/// Writes one message whole.
///
/// # Errors
/// Nobody reads any more.
pub fn write(writer: &mut impl Write, body: &str) -> io::Result<()> {
    write!(writer, "Content-Length: {}\r\n\r\n{body}", body.len())?;
    writer.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_one_by_one() -> io::Result<()> {
        let mut bytes = Vec::new();
        write(&mut bytes, "{}")?;
        bytes.extend(b"X: y\r\n\r\n");
        bytes.extend(b"content-length: 3\nContent-Type: z\n\n[1]");
        bytes.extend(b"Content-Length: 9\r\n\r\n{");
        let mut reader = bytes.as_slice();
        assert!(matches!(read(&mut reader), Ok(Some(body)) if body == b"{}"));
        assert!(matches!(read(&mut reader), Err(FrameError::Header)));
        assert!(matches!(read(&mut reader), Ok(Some(body)) if body == b"[1]"));
        assert!(matches!(read(&mut reader), Err(FrameError::Io(_))));
        assert!(matches!(read(&mut reader), Ok(None)));
        let mut endless = vec![b'x'; MAX_HEADER as usize + 1];
        endless.extend(b"\r\n\r\n");
        assert!(matches!(read(&mut endless.as_slice()), Err(FrameError::Header)));
        Ok(())
    }
}
