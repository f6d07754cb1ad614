//! Lines of a stream of bytes, bounded: of one that is too long the beginning is told, and the rest is read past.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt};

/// The next line without its end, at most `most` bytes of it; `None`: the stream ended. What is no UTF-8 is replaced.
///
/// # Errors
/// Of the stream.
pub async fn next(reader: &mut (impl AsyncBufRead + Unpin), most: usize) -> io::Result<Option<String>> {
    let mut line: Vec<u8> = Vec::new();
    loop {
        let buffer = reader.fill_buf().await?;
        if buffer.is_empty() {
            // What has no end is no line.
            return Ok(None);
        }
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = &buffer[..end.unwrap_or(buffer.len())];
        let room = most.saturating_sub(line.len());
        line.extend_from_slice(&part[..part.len().min(room)]);
        let taken = part.len() + usize::from(end.is_some());
        reader.consume(taken);
        if end.is_some() {
            let text = String::from_utf8_lossy(&line);
            return Ok(Some(text.trim_end_matches('\r').to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[tokio::test]
    async fn lines_are_told_whole_or_cut_and_an_unfinished_one_is_none() {
        let long = "x".repeat(100);
        let text = format!("one\r\n\n{long}\n\u{fffd}two\nrest");
        let mut reader = tokio::io::BufReader::with_capacity(7, text.as_bytes());
        let mut told = Vec::new();
        while let Some(line) = next(&mut reader, 10).await.unwrap() {
            told.push(line);
        }
        assert_eq!(told, ["one", "", &long[..10], "\u{fffd}two"]);
    }
}
