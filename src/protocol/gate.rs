//! A stream of which each frame is looked at before anybody else sees it.

use std::fmt;
use std::io;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};

use super::frame::HEADER_LEN;
use super::{ClientError, Header};

/// Decides when a frame may be seen.
pub trait Gate: fmt::Debug + Send {
    /// How many bytes of the body of such a frame it has to see, at most.
    fn look(&self, header: Header) -> usize;

    /// Ready when the frame may be seen. `body` is its beginning; until it is ready it is asked
    /// about the same frame again.
    ///
    /// # Errors
    ///
    /// What the peer is told instead. The stream is at its end then.
    fn poll_pass(
        &mut self,
        header: Header,
        body: &[u8],
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ClientError>>;
}

/// What has been read and not passed.
#[derive(Debug)]
pub(super) struct Gated {
    gate: Box<dyn Gate>,
    pub(super) raw: BytesMut,
    /// Bytes of the frame that passes now.
    passing: usize,
    refusal: Option<ClientError>,
}

/// What a round at the gate has come to.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Passed {
    /// So many bytes went through.
    Some(usize),
    /// More has to be read first.
    NeedsMore,
    /// The gate is not ready.
    NotYet,
}

impl Gated {
    pub(super) fn new(gate: Box<dyn Gate>, raw: BytesMut) -> Self {
        Self { gate, raw, passing: 0, refusal: None }
    }

    pub(super) const fn take_refusal(&mut self) -> Option<ClientError> {
        self.refusal.take()
    }

    /// Moves what may pass to `incoming`.
    pub(super) fn pass(
        &mut self,
        incoming: &mut BytesMut,
        cx: &mut Context<'_>,
    ) -> io::Result<Passed> {
        let mut moved = 0;
        let stopped = loop {
            if self.passing > 0 {
                let count = self.passing.min(self.raw.len());
                if count == 0 {
                    break Passed::NeedsMore;
                }
                incoming.extend_from_slice(self.raw.get(..count).unwrap_or_default());
                self.raw.advance(count);
                self.passing -= count;
                moved += count;
                continue;
            }
            let header = match Header::parse(&self.raw) {
                Ok(Some(header)) => header,
                Ok(None) => break Passed::NeedsMore,
                // Whoever reads it next says so.
                Err(_) => {
                    self.passing = self.raw.len();
                    continue;
                }
            };
            let look = self.gate.look(header).min(header.body_len);
            let Some(body) = self.raw.get(HEADER_LEN..HEADER_LEN + look) else {
                break Passed::NeedsMore;
            };
            match self.gate.poll_pass(header, body, cx) {
                Poll::Pending => break Passed::NotYet,
                Poll::Ready(Ok(())) => self.passing = header.frame_len(),
                Poll::Ready(Err(refusal)) => {
                    self.refusal = Some(refusal);
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
            }
        };
        Ok(if moved > 0 { Passed::Some(moved) } else { stopped })
    }
}

/// What has passed a gate of bytes that come in parts of these lengths, and how many frames.
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub fn pass_in_parts(gate: Box<dyn Gate>, sent: &[u8], lengths: &[usize]) -> (Vec<u8>, usize) {
    let mut cx = Context::from_waker(std::task::Waker::noop());
    let (mut gated, mut incoming) = (Gated::new(gate, BytesMut::new()), BytesMut::new());
    let (mut rest, mut lengths) = (sent, lengths.iter().cycle());
    while !rest.is_empty() {
        let (part, behind) = rest.split_at(rest.len().min(*lengths.next().unwrap()));
        gated.raw.extend_from_slice(part);
        while let Passed::Some(_) = gated.pass(&mut incoming, &mut cx).unwrap() {}
        rest = behind;
    }
    let (mut count, mut at) = (0, 0);
    while let Ok(Some(header)) = Header::parse(incoming.get(at..).unwrap_or_default()) {
        (count, at) = (count + 1, at + header.frame_len());
    }
    (incoming.to_vec(), count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `y` pass at once, `w` when it is asked for the second time, and `n` never.
    #[derive(Debug, Default)]
    struct Slow(Vec<u8>, bool);

    impl Gate for Slow {
        fn look(&self, _: Header) -> usize {
            2
        }

        fn poll_pass(
            &mut self,
            header: Header,
            body: &[u8],
            _: &mut Context<'_>,
        ) -> Poll<Result<(), ClientError>> {
            assert_eq!(body.len(), header.body_len.min(2));
            match header.tag {
                b'w' if !std::mem::replace(&mut self.1, true) => return Poll::Pending,
                b'n' => {
                    return Poll::Ready(Err(ClientError::fatal("08006", "C205", "no")));
                }
                _ => {}
            }
            self.0.push(header.tag);
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn frames_pass_one_by_one_and_none_that_is_refused() {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        let mut gated = Gated::new(Box::<Slow>::default(), BytesMut::new());
        let mut incoming = BytesMut::new();
        let mut step = |bytes: &[u8], incoming: &mut BytesMut| {
            gated.raw.extend_from_slice(bytes);
            gated.pass(incoming, &mut cx).ok()
        };
        assert_eq!(step(b"y\0\0\0", &mut incoming), Some(Passed::NeedsMore));
        assert_eq!(step(b"\x04y\0\0\0\x08a", &mut incoming), Some(Passed::Some(5)));
        // As soon as as much of it is there as has to be seen, the rest follows.
        assert_eq!(step(b"b", &mut incoming), Some(Passed::Some(7)));
        assert_eq!(step(b"cdw\0\0\0\x04y\0\0\0\x04", &mut incoming), Some(Passed::Some(2)));
        assert_eq!(incoming, &b"y\0\0\0\x04y\0\0\0\x08abcd"[..]);
        assert_eq!(step(b"", &mut incoming), Some(Passed::Some(10)));
        incoming.clear();
        assert_eq!(step(b"n\0\0\0\x04y\0\0\0\x04", &mut incoming), None);
        assert!(incoming.is_empty());
        assert_eq!(gated.take_refusal().map(|refusal| refusal.code), Some("C205"));
    }
}
