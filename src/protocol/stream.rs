//! A socket with a read buffer and a write buffer: frames in, bytes out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::gate::{Gate, Gated, Passed};
use super::{ClientError, Error, Frame, Socket};

/// Bytes that one read may bring, and so the most that a relay holds of one direction.
const READ_CHUNK: usize = 16 * 1024;
/// Bytes that the first read into an empty buffer may bring: most messages are short.
const FIRST_CHUNK: usize = 4 * 1024;

/// Buffers that nobody uses, of this thread: those who speak now use what others have given up.
mod spare {
    use std::cell::RefCell;

    use bytes::BytesMut;

    use super::FIRST_CHUNK;

    /// Buffers kept. More than a busy thread uses at one time.
    const MOST: usize = 64;

    thread_local! {
        static SPARE: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    }

    /// An empty buffer of at least the first chunk.
    pub(super) fn take() -> BytesMut {
        let spare = SPARE.with_borrow_mut(Vec::pop);
        spare.unwrap_or_else(|| BytesMut::with_capacity(FIRST_CHUNK))
    }

    /// Keeps an empty buffer, unless it has grown or there are enough.
    pub(super) fn give(mut buffer: BytesMut) {
        buffer.clear();
        // What was read from its front can be had again only if nobody holds a part of it.
        if !buffer.try_reclaim(FIRST_CHUNK) || buffer.capacity() > 2 * FIRST_CHUNK {
            return;
        }
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < MOST {
                spare.push(buffer);
            }
        });
    }
}

/// A socket with its two buffers.
#[derive(Debug)]
pub struct FrameStream {
    socket: Socket,
    /// Read and not yet looked at.
    pub incoming: BytesMut,
    /// To be written.
    pub outgoing: BytesMut,
    /// Bytes were written that TLS may still hold.
    unflushed: bool,
    /// What is read stands behind this, if anything.
    gated: Option<Box<Gated>>,
}

impl FrameStream {
    /// Wraps a socket from which nothing has been read yet.
    pub fn new(socket: Socket) -> Self {
        let (incoming, outgoing) = (BytesMut::new(), BytesMut::new());
        Self { socket, incoming, outgoing, unflushed: false, gated: None }
    }

    /// From now on a frame is in `incoming` only when `gate` has let it pass.
    pub fn set_gate(&mut self, gate: Box<dyn Gate>) {
        let raw = self.incoming.split();
        self.gated = Some(Box::new(Gated::new(gate, raw)));
    }

    /// Whether what is read passes a gate.
    pub const fn is_gated(&self) -> bool {
        self.gated.is_some()
    }

    /// What the peer is to be told of a frame that did not pass, as its last words.
    pub fn take_refusal(&mut self) -> Option<ClientError> {
        self.gated.as_mut()?.take_refusal()
    }

    /// The socket below.
    pub const fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Gives the socket back, if nothing was read from it that nobody has looked at.
    ///
    /// # Errors
    ///
    /// Whoever asks for TLS must not have sent anything ahead of the handshake.
    pub fn into_socket(self) -> Result<Socket, Error> {
        if self.incoming.is_empty() {
            Ok(self.socket)
        } else {
            Err(super::Violation::BytesBeforeTls.into())
        }
    }

    /// Reads the next frame, whose body may have at most `limit` bytes. Safe to cancel.
    ///
    /// # Errors
    ///
    /// The end of the stream is [`Error::Closed`], wherever it comes.
    pub async fn read_frame(&mut self, limit: usize) -> Result<Frame, Error> {
        loop {
            if let Some(frame) = Frame::split_from(&mut self.incoming, limit)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Reads until `incoming` has at least `count` bytes. Safe to cancel.
    ///
    /// # Errors
    ///
    /// The end of the stream is [`Error::Closed`].
    pub async fn read_at_least(&mut self, count: usize) -> Result<(), Error> {
        while self.incoming.len() < count {
            self.fill().await?;
        }
        Ok(())
    }

    /// Writes everything in `outgoing`.
    ///
    /// # Errors
    ///
    /// Fails as the socket does.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.socket.write_all_buf(&mut self.outgoing).await?;
        self.socket.flush().await?;
        self.unflushed = false;
        Ok(())
    }

    /// Writes everything in `outgoing` and closes our end.
    ///
    /// # Errors
    ///
    /// Fails as the socket does.
    pub async fn close(&mut self) -> Result<(), Error> {
        // Nothing that is read from here on means anything.
        self.gated = None;
        self.flush().await?;
        Ok(self.socket.shutdown().await?)
    }

    /// Writes everything in `outgoing`, closes our end, and reads on until the peer closes its own.
    ///
    /// A socket that is closed while it holds unread bytes is reset, and the peer may lose our
    /// last words.
    ///
    /// # Errors
    ///
    /// Fails as the socket does.
    pub async fn close_with_last_words(&mut self) -> Result<(), Error> {
        self.close().await?;
        loop {
            self.incoming.clear();
            self.fill().await?;
        }
    }

    /// Reads what there is, about one chunk at most; 0 is the end of the stream.
    ///
    /// A buffer that was given up by [`Self::shrink`] is made again only when there is something
    /// to read.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.gated.is_some() {
            return self.poll_fill_gated(cx);
        }
        if self.incoming.capacity() == 0 {
            ready!(self.socket.poll_read_ready(cx))?;
            self.incoming = spare::take();
        } else if self.incoming.capacity() - self.incoming.len() < FIRST_CHUNK / 4 {
            self.incoming.reserve(READ_CHUNK);
        }
        // After a long message there is far more room than is to be read, and looked at, at a time.
        let chunk = &mut (&mut self.incoming).limit(READ_CHUNK);
        poll_read_buf(Pin::new(&mut self.socket), cx, chunk)
    }

    fn poll_fill_gated(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(gated) = &mut self.gated else { return Poll::Ready(Ok(0)) };
        loop {
            match gated.pass(&mut self.incoming, cx)? {
                Passed::Some(count) => return Poll::Ready(Ok(count)),
                Passed::NotYet => return Poll::Pending,
                Passed::NeedsMore => {}
            }
            gated.raw.reserve(READ_CHUNK);
            if ready!(poll_read_buf(Pin::new(&mut self.socket), cx, &mut gated.raw))? == 0 {
                return Poll::Ready(Ok(0));
            }
        }
    }

    /// Gives up the memory of empty buffers, for a peer that may be silent for long.
    pub fn shrink(&mut self) {
        for buffer in [&mut self.incoming, &mut self.outgoing] {
            if buffer.is_empty() && buffer.capacity() > 0 {
                spare::give(std::mem::take(buffer));
            }
        }
    }

    /// Sees to it that something can be written without asking the system for memory.
    pub fn prepare_outgoing(&mut self) {
        if self.outgoing.capacity() == 0 {
            self.outgoing = spare::take();
        }
    }

    /// Writes what the socket takes of `outgoing`; ready when nothing is left.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outgoing.is_empty() {
            let written = ready!(Pin::new(&mut self.socket).poll_write(cx, &self.outgoing))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outgoing.advance(written);
            self.unflushed = true;
        }
        if self.unflushed {
            ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    async fn fill(&mut self) -> Result<(), Error> {
        match std::future::poll_fn(|cx| self.poll_fill(cx)).await? {
            0 => Err(Error::Closed),
            _ => Ok(()),
        }
    }
}
