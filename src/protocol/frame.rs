//! Cuts a buffer into frames by type byte and length; bodies stay bytes.
//!
//! Manual: "Message Formats". A frame is a type byte, a length that counts itself, and a body.

use bytes::{BufMut, Bytes, BytesMut};

use super::Violation;
use crate::scan;

/// Bytes of a type byte and a length.
pub const HEADER_LEN: usize = 5;

/// The largest length field that Postgres itself accepts (`MaxAllocSize` less one).
pub const MAX_LENGTH: u32 = 0x3fff_ffff;

/// The type byte and the length of one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Header {
    /// The type byte.
    pub tag: u8,
    /// Bytes of the body that follows.
    pub body_len: usize,
}

impl Header {
    /// Reads the header at the start of `bytes`; `None` until all of it is there.
    ///
    /// # Errors
    ///
    /// Refuses a length that is smaller than itself or larger than Postgres allows.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let Some((&[tag, a, b, c, d], _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([a, b, c, d]);
        if !(4..=MAX_LENGTH).contains(&length) {
            return Err(Violation::Length { tag: tag.into(), length });
        }
        Ok(Some(Self { tag, body_len: length as usize - 4 }))
    }

    /// Bytes of the whole frame.
    pub const fn frame_len(self) -> usize {
        HEADER_LEN + self.body_len
    }
}

/// One whole message, its body uninterpreted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// The type byte.
    pub tag: u8,
    /// Everything after the length.
    pub body: Bytes,
}

impl Frame {
    /// Takes the first frame off `buffer`; `None` until all of it is there.
    ///
    /// # Errors
    ///
    /// Refuses impossible lengths, and bodies of more than `limit` bytes before they are awaited.
    pub fn split_from(buffer: &mut BytesMut, limit: usize) -> Result<Option<Self>, Violation> {
        let Some(header) = Header::parse(buffer)? else {
            return Ok(None);
        };
        if header.body_len > limit {
            let length = u32::try_from(header.body_len + 4).unwrap_or(u32::MAX);
            return Err(Violation::Length { tag: header.tag.into(), length });
        }
        if buffer.len() < header.frame_len() {
            return Ok(None);
        }
        let mut frame = buffer.split_to(header.frame_len()).freeze();
        let body = frame.split_off(HEADER_LEN);
        Ok(Some(Self { tag: header.tag, body }))
    }

    /// Appends the frame, header and all, to `buffer`.
    pub fn encode(&self, buffer: &mut BytesMut) {
        let length = u32::try_from(self.body.len() + 4).unwrap_or(u32::MAX);
        buffer.put_u8(self.tag);
        buffer.put_u32(length);
        buffer.extend_from_slice(&self.body);
    }
}

/// Takes a text that ends in a zero byte off the front of `bytes`.
pub fn split_cstr(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = scan::position(bytes, |byte| byte == 0)?;
    let (text, rest) = bytes.split_at(end);
    Some((text, rest.get(1..)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 64;

    fn cut(mut chunks: impl Iterator<Item = Vec<u8>>) -> Result<Vec<Frame>, Violation> {
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        loop {
            while let Some(frame) = Frame::split_from(&mut buffer, LIMIT)? {
                frames.push(frame);
            }
            match chunks.next() {
                Some(chunk) => buffer.extend_from_slice(&chunk),
                None => return Ok(frames),
            }
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        for (length, ok) in
            [(0u32, false), (3, false), (4, true), (0x3fff_ffff, true), (0x4000_0000, false)]
        {
            let [a, b, c, d] = length.to_be_bytes();
            assert_eq!(Header::parse(&[b'Q', a, b, c, d]).is_ok(), ok, "{length}");
        }
        assert_eq!(Header::parse(b"Q\0\0\0"), Ok(None));
    }

    #[test]
    fn a_body_over_the_limit_is_refused_before_it_arrives() {
        let mut buffer = BytesMut::from(&[b'p', 0, 0, 0, 4 + LIMIT as u8 + 1][..]);
        assert!(Frame::split_from(&mut buffer, LIMIT).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_a_violation(bytes: Vec<u8>) {
            let mut buffer = BytesMut::from(&bytes[..]);
            let mut left = buffer.len();
            while let Ok(Some(_)) = Frame::split_from(&mut buffer, LIMIT) {
                prop_assert!(buffer.len() < left);
                left = buffer.len();
            }
        }

        #[test]
        fn any_split_of_a_stream_gives_the_same_frames(
            bodies in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..LIMIT)), 0..8),
            cuts in prop::collection::vec(0usize..200, 0..8),
        ) {
            let mut stream = Vec::new();
            for (tag, body) in &bodies {
                stream.push(*tag);
                stream.extend((body.len() as u32 + 4).to_be_bytes());
                stream.extend(body);
            }
            let mut chunks = Vec::new();
            let mut rest = &stream[..];
            for cut in cuts {
                let (head, tail) = rest.split_at(cut.min(rest.len()));
                chunks.push(head.to_vec());
                rest = tail;
            }
            chunks.push(rest.to_vec());
            let frames = cut(chunks.into_iter()).unwrap();
            prop_assert_eq!(frames, cut(std::iter::once(stream)).unwrap());
        }
    }
}
