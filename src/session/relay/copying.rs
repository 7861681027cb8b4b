//! A `Query` with a COPY FROM STDIN, or such a COPY in a pipeline, run by the proxy step by step.
//!
//! It begins when everything ahead of it is answered. A `Query` is run statement by statement, and
//! for the count of answers it is a `Query` still: its `ReadyForQuery` is that of a Sync of ours. An
//! `Execute` is one of the pipeline.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};

use super::from_client::Admitted;
use super::{End, Relay, Rest};
use crate::protocol::Header;
use crate::protocol::frame::{HEADER_LEN, split_cstr};
use crate::protocol::message::{backend, frontend};
use crate::session::answer::Answer;
use crate::session::copy_in::{CopyIn, FLUSH, Fate, Known, KnownCopies, LONGEST, Plain};
use crate::session::filter;
use crate::session::relay::malformed;
use crate::statement::{self, CopyFrom, Kind, Surroundings};
use crate::tenant::Scope;

const SYNC: &[u8] = b"S\0\0\0\x04";

/// Names in a `Bind` or an `Execute` end within so many bytes, or are not known here.
const NAMES_WITHIN: usize = 8 * 1024;

/// What a session's COPYs need.
#[derive(Debug, Default)]
pub(super) struct Copying {
    known: KnownCopies,
    /// Boxed: hardly any session has one.
    running: Option<Box<Running>>,
    /// The server was asked for what it has, because a COPY waits for that.
    flushed: bool,
    /// An error that goes out together with the `ReadyForQuery` of its `Query`, as Postgres sends
    /// them: drivers take the one for both.
    held: BytesMut,
}

/// What is being run.
#[derive(Debug)]
struct Running {
    current: CopyIn,
    /// The text of the `Query`, and where its next statement starts; of an `Execute` there is none.
    script: Option<(Bytes, usize)>,
    /// The server reads data.
    takes_data: bool,
    /// Some has gone to it.
    has_data: bool,
    /// Behind that a Sync came, which Postgres reads as a part of the COPY unless that has failed.
    has_sync: bool,
}

impl Running {
    const fn new(current: CopyIn, script: Option<(Bytes, usize)>) -> Self {
        Self { current, script, takes_data: false, has_data: false, has_sync: false }
    }
}

impl Copying {
    pub(super) const fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// An answer is over.
    pub(super) fn release(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&std::mem::take(&mut self.held));
    }

    /// An answer is over, and a transaction with it or not.
    pub(super) fn answered(&mut self, is_idle: bool) {
        self.flushed = false;
        if is_idle {
            self.known.ended();
        }
    }

    /// A statement of SQL may have changed what is prepared under a name.
    pub(super) fn completed(&mut self, tag: &[u8]) {
        let changes = [&b"PREPARE"[..], b"DEALLOCATE", b"DISCARD"];
        if !self.known.is_empty() && changes.iter().any(|verb| tag.starts_with(verb)) {
            self.known.forget();
        }
    }
}

impl Relay<'_> {
    /// Whether the server reads COPY data.
    pub(super) fn takes_data(&self) -> bool {
        self.exchange.copy_in() || self.copying.running.as_ref().is_some_and(|run| run.takes_data)
    }

    /// Whether the next frame is a `Query` with a COPY for which something has to be answered first.
    pub(super) fn copy_has_to_wait(&mut self, header: Header) -> bool {
        header.tag == frontend::QUERY && self.query_to_run(header).is_some() && self.waits_for_all()
    }

    /// Whether something is to be answered still; asks the server for it.
    fn waits_for_all(&mut self) -> bool {
        let waits = !self.exchange.is_answered();
        if waits && self.exchange.pending() == 0 && !self.copying.flushed {
            self.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
        self.copying.flushed = waits && self.exchange.pending() == 0;
        waits
    }

    /// The text of the next frame, a `Query`, if it is to be run here.
    fn query_to_run(&self, header: Header) -> Option<&[u8]> {
        if matches!(self.bound.scope(), Scope::Owner)
            || self.exchange.is_failed()
            || header.body_len > LONGEST
        {
            return None;
        }
        let body = self.client.incoming.get(HEADER_LEN..header.frame_len())?;
        let text = body.strip_suffix(b"\0").filter(|text| !text.contains(&0))?;
        Known::is_among(text, self.bound.server().lexis()).then_some(text)
    }

    /// Takes the next frame if it runs a COPY, and notes what it says of those to come.
    pub(super) fn admit_copy(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        match header.tag {
            frontend::QUERY => {
                self.copying.known.queried();
                let text = self.query_to_run(header).map(Bytes::copy_from_slice);
                Ok(text.map(|text| self.run_query(header, text)))
            }
            frontend::PARSE => {
                self.note_parse(header);
                Ok(None)
            }
            frontend::BIND | frontend::CLOSE | frontend::EXECUTE
                if !self.copying.known.is_empty() =>
            {
                self.note_names(header)
            }
            _ => Ok(None),
        }
    }

    fn note_parse(&mut self, header: Header) {
        let is_whole = self.client.incoming.len() >= header.frame_len();
        if !is_whole || header.body_len > LONGEST {
            self.copying.known.forget();
            return;
        }
        let lexis = self.bound.server().lexis();
        let body = self.client.incoming.get(HEADER_LEN..header.frame_len());
        let Some((name, rest)) = body.and_then(split_cstr) else { return };
        let text = split_cstr(rest).filter(|_| self.bound.scope() != Scope::Owner);
        let known = text.and_then(|(text, _)| Known::read(text, lexis));
        if known.is_some() || !self.copying.known.is_empty() {
            self.copying.known.parsed(name, known);
        }
    }

    fn note_names(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        let within = header.body_len.min(NAMES_WITHIN);
        let Some(head) = self.client.incoming.get(HEADER_LEN..HEADER_LEN + within) else {
            return Ok(Some(Admitted::NotAllThere));
        };
        let known = &mut self.copying.known;
        match header.tag {
            frontend::BIND => {
                match split_cstr(head)
                    .and_then(|(portal, rest)| Some((portal, split_cstr(rest)?.0)))
                {
                    Some((portal, name)) => known.bound(portal, name),
                    None => known.forget(),
                }
                Ok(None)
            }
            frontend::CLOSE => {
                if let Some((kind, rest)) = head.split_first()
                    && let Some((name, _)) = split_cstr(rest)
                {
                    known.closed(*kind, name);
                }
                Ok(None)
            }
            _ => {
                let found = split_cstr(head).and_then(|(portal, _)| known.portal(portal));
                Ok(match found {
                    Some(_) if self.waits_for_all() => Some(Admitted::NotYet),
                    Some(found) if !self.exchange.is_failed() => self.run_execute(header, &found),
                    Some(_) | None => None,
                })
            }
        }
    }

    fn run_query(&mut self, header: Header, text: Bytes) -> Admitted {
        self.exchange.settle_work();
        self.exchange.sent(header.tag);
        self.client.incoming.advance(header.frame_len());
        self.run_next(text, 0);
        Admitted::Yes
    }

    fn run_execute(&mut self, header: Header, known: &Arc<Known>) -> Option<Admitted> {
        let frame = Bytes::copy_from_slice(self.client.incoming.get(..header.frame_len())?);
        self.exchange.sent(header.tag);
        self.client.incoming.advance(header.frame_len());
        let out = &mut self.bound.server_mut().stream.outgoing;
        let current = CopyIn::begin(&known.text, &known.copy, Plain::Frame(frame), out);
        self.copying.running = Some(Box::new(Running::new(current, None)));
        Some(Admitted::Yes)
    }

    /// Runs the next statement of a text, or ends it.
    fn run_next(&mut self, text: Bytes, from: usize) {
        let lexis = self.bound.server().lexis();
        let out = &mut self.bound.server_mut().stream.outgoing;
        let mut at = from;
        let current = loop {
            let rest = text.get(at..).unwrap_or_default();
            if rest.is_empty() {
                break None;
            }
            let next = statement::next(rest, lexis, &Surroundings::default());
            let one = rest.get(next.statement).unwrap_or_default();
            at += next.rest.max(1);
            // Of a text with several statements, Postgres leaves out the empty ones.
            if next.reading.kind != Kind::Empty {
                let plain = Plain::Text(text.slice_ref(one));
                let is_copy = next.reading.kind == Kind::CopyFromStdin;
                break Some(match CopyFrom::read(one).filter(|_| is_copy) {
                    Some(copy) => CopyIn::begin(one, &copy, plain, out),
                    None => CopyIn::begin_plain(plain, out),
                });
            }
        };
        match current {
            Some(current) => {
                let script = Some((text, at));
                self.copying.running = Some(Box::new(Running::new(current, script)));
            }
            None => {
                self.copying.running = None;
                self.put_sync();
            }
        }
    }

    /// Decides about a frame of the client's while something is run.
    pub(super) fn admit_while_copying(&mut self, header: Header) -> Result<Admitted, End> {
        let takes_data = self.copying.running.as_ref().is_some_and(|running| running.takes_data);
        match header.tag {
            frontend::TERMINATE => {
                self.depart(End::ClientLeft);
                self.client.incoming.clear();
                return Ok(Admitted::Yes);
            }
            _ if !takes_data => return Ok(Admitted::NotYet),
            frontend::COPY_DATA => {
                if let Some(running) = &mut self.copying.running {
                    running.has_data = true;
                }
            }
            frontend::COPY_DONE if header.body_len > 0 => return Err(End::Told(malformed())),
            frontend::COPY_DONE | frontend::COPY_FAIL => {
                if let Some(running) = &mut self.copying.running {
                    running.takes_data = false;
                }
            }
            // "Flush and Sync messages are ignored while in copy-in mode".
            frontend::FLUSH | frontend::SYNC => {
                if let Some(running) = &mut self.copying.running {
                    running.has_sync |= running.has_data && header.tag == frontend::SYNC;
                }
                self.from_client = Rest { bytes: header.frame_len(), dropped: true };
                self.carry_client_bytes(header.frame_len());
                return Ok(Admitted::Yes);
            }
            other => return Err(End::Told(filter::violation(other))),
        }
        self.from_client = Rest { bytes: header.frame_len(), dropped: false };
        self.carry_client_bytes(header.frame_len());
        if header.tag == frontend::COPY_DONE {
            // What comes next waits for the answer, which would wait for a Sync.
            self.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
        Ok(Admitted::Yes)
    }

    /// Takes a message of the server's while something is run; false if more of it has to arrive.
    pub(super) fn admit_copying_answer(&mut self, header: Header) -> Result<bool, End> {
        let Some(running) = &mut self.copying.running else { return Ok(true) };
        let is_script = running.script.is_some();
        let look = running.current.look(header);
        let stream = &mut self.bound.server_mut().stream;
        let Some(body) = stream.incoming.get(HEADER_LEN..HEADER_LEN + look) else {
            return Ok(false);
        };
        let fate = running.current.answer(header, body, &mut stream.outgoing);
        let fate = fate.map_err(|_| End::Bug("an answer that was not due"))?;
        let answer = Answer::read(header.tag, body);
        let is_told = !matches!(fate, Fate::Drop);
        let limited = if is_told { self.tally.received(header.tag, body)? } else { None };
        let hidden = header.tag == backend::NOTICE_RESPONSE
            && self.hides_plans
            && filter::tells_of_plans(body);
        let is_fatal = matches!(answer, Answer::Error { is_fatal: true, .. });
        let is_held = is_script && matches!(fate, Fate::Failed(_)) && !is_fatal;
        let out = if is_held { &mut self.copying.held } else { &mut self.client.outgoing };
        let mut is_forwarded = false;
        match (&fate, limited) {
            (_, Some(error)) => error.encode(out),
            (Fate::Drop, None) => {}
            (_, None) if hidden => {}
            (Fate::Forward | Fate::Data | Fate::Done(None) | Fate::Failed(None), None) => {
                is_forwarded = true;
            }
            (Fate::Instead(frame) | Fate::Failed(Some(frame)) | Fate::Done(Some(frame)), None) => {
                out.extend_from_slice(frame);
            }
        }
        self.fatal_seen |= is_fatal;
        self.from_server = Rest { bytes: header.frame_len(), dropped: !is_forwarded };
        self.carry_server_bytes();
        self.follow(&fate, answer)?;
        Ok(true)
    }

    /// Goes on to what comes next.
    fn follow(&mut self, fate: &Fate, answer: Answer) -> Result<(), End> {
        match fate {
            Fate::Drop | Fate::Forward | Fate::Instead(_) => return Ok(()),
            Fate::Data => {
                if let Some(running) = &mut self.copying.running {
                    running.takes_data = true;
                }
                return Ok(());
            }
            Fate::Done(_) | Fate::Failed(_) => {}
        }
        let Some(running) = self.copying.running.take() else { return Ok(()) };
        self.note_answer(answer)?;
        let has_failed = matches!(fate, Fate::Failed(_));
        match running.script {
            Some((text, next)) if !has_failed => self.run_next(text, next),
            Some(_) => self.put_sync(),
            // That Sync was not a part of the COPY then.
            None if has_failed && running.has_sync => {
                self.exchange.sent(frontend::SYNC);
                self.put_sync();
            }
            None => {}
        }
        Ok(())
    }

    fn put_sync(&mut self) {
        self.bound.server_mut().stream.outgoing.extend_from_slice(SYNC);
    }
}
