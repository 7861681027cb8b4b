//! COPY … FROM STDIN as one statement of a pipeline, with a detour for tables with row security, into
//! which Postgres does not copy (pure).
//!
//! The server is asked first what it would do (`cloison.stage_copy`). Where row security applies, the
//! data goes into a table of the session's own, whose columns are those that the COPY names, and from
//! there an INSERT moves the rows on, which the client's own role runs under its policies. Otherwise
//! the COPY goes out as it is. All of it is within the pipeline that the client's Sync ends.
//!
//! The text is read for the sake of that detour alone. Whatever is misread, no row gets into a table
//! but by that INSERT, or by a COPY that Postgres itself allows.

mod known;
mod messages;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

pub(super) use known::{Known, KnownCopies, LONGEST};
pub(super) use messages::FLUSH;

use crate::protocol::Header;
use crate::protocol::frame::split_cstr;
use crate::protocol::message::backend;
use crate::statement::CopyFrom;

/// Longer errors and notices pass as they are.
const LONGEST_TOLD: usize = 64 * 1024;

const STAGE: &[u8] = include_bytes!("../../../sql/control/stage_copy.sql");
const DROP: &[u8] = include_bytes!("../../../sql/control/drop_copy_table.sql");

/// A statement that the proxy runs for the client, step by step.
#[derive(Debug)]
pub(super) struct CopyIn {
    phase: Phase,
    /// Tags of the answers that come next.
    due: VecDeque<u8>,
    /// What goes out if there is to be no detour.
    plain: Plain,
    /// The COPY with the other table in the place of its own.
    staged: Vec<u8>,
    /// The name of its own table, for messages.
    shown: Vec<u8>,
    /// The INSERT that moves the rows on; how many it has moved.
    insert: Vec<u8>,
    rows: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Phase {
    /// The server is asked where the data is to go.
    Asking,
    /// The data goes into the session's own table.
    Staging,
    /// The rows go from there to where they belong, and that table is dropped.
    Moving,
    /// The statement runs as it is.
    Plain,
}

/// What goes out without a detour.
#[derive(Debug)]
pub(super) enum Plain {
    /// A message of the client's.
    Frame(Bytes),
    /// The text of a statement.
    Text(Bytes),
}

/// What becomes of a message of the server's.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Fate {
    Drop,
    Forward,
    /// The client gets this frame in its place.
    Instead(Bytes),
    /// The client gets it, and the server reads data from now on.
    Data,
    /// The statement is done. The client gets this frame, or the message itself.
    Done(Option<Bytes>),
    /// It has failed, and the server skips everything up to a Sync. The client gets this frame, or the
    /// message itself.
    Failed(Option<Bytes>),
}

/// The answer is none that is due.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Unexpected;

/// Whether such a message answers something, or belongs to an answer.
pub(super) const fn is_answer(tag: u8) -> bool {
    !matches!(
        tag,
        backend::NOTIFICATION_RESPONSE | backend::PARAMETER_STATUS | backend::READY_FOR_QUERY
    )
}

impl CopyIn {
    /// Begins a COPY FROM STDIN.
    pub(super) fn begin(text: &[u8], copy: &CopyFrom, plain: Plain, out: &mut BytesMut) -> Self {
        let mut this = Self::new(Phase::Asking, plain);
        this.staged = messages::staged(text, copy.target.clone());
        this.shown = messages::shown(&copy.relation);
        let columns = copy.columns.as_deref().map(messages::array);
        let flag = |flag: bool| -> &[u8] { if flag { b"t" } else { b"f" } };
        let values = [
            Some(copy.relation.as_slice()),
            columns.as_deref(),
            Some(flag(copy.fills)),
            Some(flag(copy.freezes)),
        ];
        this.run(STAGE, &values, b"DC", out);
        out.extend_from_slice(FLUSH);
        this
    }

    /// Begins another statement.
    pub(super) fn begin_plain(plain: Plain, out: &mut BytesMut) -> Self {
        let mut this = Self::new(Phase::Plain, plain);
        this.go_plain(out);
        this
    }

    fn new(phase: Phase, plain: Plain) -> Self {
        let (staged, shown, insert, rows) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { phase, due: VecDeque::new(), plain, staged, shown, insert, rows }
    }

    /// How much of the body of such a message has to be there before it is judged.
    pub(super) fn look(&self, header: Header) -> usize {
        match header.tag {
            backend::DATA_ROW if self.phase == Phase::Asking => header.body_len,
            backend::COMMAND_COMPLETE => header.body_len,
            // Of a longer one the beginning will do: severity and code come first.
            backend::ERROR_RESPONSE | backend::NOTICE_RESPONSE => header.body_len.min(LONGEST_TOLD),
            _ => 0,
        }
    }

    /// Takes a message of the server's with as much of its body, and writes what the server gets next.
    pub(super) fn answer(
        &mut self,
        header: Header,
        body: &[u8],
        out: &mut BytesMut,
    ) -> Result<Fate, Unexpected> {
        let tag = header.tag;
        let told = || (body.len() == header.body_len).then(|| self.told(tag, body));
        match tag {
            backend::ERROR_RESPONSE => return Ok(Fate::Failed(told())),
            // What our own question may have to say is nothing to the client.
            backend::NOTICE_RESPONSE if self.phase == Phase::Asking => return Ok(Fate::Drop),
            backend::NOTICE_RESPONSE => return Ok(told().map_or(Fate::Forward, Fate::Instead)),
            _ => {}
        }
        if self.due.front() == Some(&tag) {
            self.due.pop_front();
            self.note(tag, body)?;
            let is_copy_in = tag == backend::COPY_IN_RESPONSE;
            return if !self.due.is_empty() || self.phase == Phase::Plain {
                Ok(if is_copy_in { Fate::Data } else { Fate::Drop })
            } else {
                Ok(self.go_on(out))
            };
        }
        match tag {
            _ if self.phase != Phase::Plain || !self.due.is_empty() => Err(Unexpected),
            // A statement without rows, which the client has not asked to be described.
            b'n' => Ok(Fate::Drop),
            b'T' | backend::DATA_ROW | b'H' | b'd' | b'c' => Ok(Fate::Forward),
            backend::COPY_IN_RESPONSE => Ok(Fate::Data),
            backend::COMMAND_COMPLETE | b'I' | b's' => Ok(Fate::Done(None)),
            _ => Err(Unexpected),
        }
    }

    /// Notes what an answer that was due says.
    fn note(&mut self, tag: u8, body: &[u8]) -> Result<(), Unexpected> {
        match (self.phase, tag) {
            (Phase::Asking, backend::DATA_ROW) => {
                self.insert = messages::only_value(body).ok_or(Unexpected)?.to_vec();
            }
            // The first is the INSERT's.
            (Phase::Moving, backend::COMMAND_COMPLETE) if self.rows.is_empty() => {
                let (tag, _) = split_cstr(body).ok_or(Unexpected)?;
                self.rows = tag.rsplit(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
            }
            _ => {}
        }
        Ok(())
    }

    /// A phase is over.
    fn go_on(&mut self, out: &mut BytesMut) -> Fate {
        match self.phase {
            Phase::Asking if self.insert.is_empty() => {
                self.phase = Phase::Plain;
                self.go_plain(out);
                Fate::Drop
            }
            Phase::Asking => {
                self.phase = Phase::Staging;
                let staged = std::mem::take(&mut self.staged);
                self.run(&staged, &[], b"GC", out);
                out.extend_from_slice(FLUSH);
                Fate::Drop
            }
            Phase::Staging => {
                self.phase = Phase::Moving;
                let insert = std::mem::take(&mut self.insert);
                self.run(&insert, &[], b"C", out);
                self.run(DROP, &[], b"DC", out);
                messages::close(out);
                self.due.extend(b"33");
                out.extend_from_slice(FLUSH);
                Fate::Drop
            }
            Phase::Moving | Phase::Plain => Fate::Done(Some(messages::copied(&self.rows))),
        }
    }

    fn go_plain(&mut self, out: &mut BytesMut) {
        match &self.plain {
            Plain::Frame(frame) => out.extend_from_slice(frame),
            Plain::Text(text) => {
                messages::run_unnamed(text, out);
                self.due.extend(b"12");
            }
        }
        out.extend_from_slice(FLUSH);
    }

    /// Writes the messages that run a statement of ours, whose execution has these answers.
    fn run(&mut self, text: &[u8], values: &[Option<&[u8]>], answers: &[u8], out: &mut BytesMut) {
        messages::close(out);
        messages::run(text, values, out);
        self.due.extend(b"3312");
        self.due.extend(answers);
    }

    /// An error or a notice as the client gets it: it speaks of what the client has written.
    fn told(&self, tag: u8, body: &[u8]) -> Bytes {
        let without: &[u8] = match self.phase {
            Phase::Plain => return messages::frame(tag, body),
            Phase::Asking => b"WqpP",
            Phase::Staging | Phase::Moving => b"Pqp",
        };
        messages::told(tag, body, without, &self.shown)
    }
}

#[cfg(test)]
mod tests;
