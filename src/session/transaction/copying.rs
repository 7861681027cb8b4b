//! A COPY FROM STDIN that the proxy runs step by step: it begins when nothing else is due, and nothing
//! else goes out before it is done.

use bytes::{BufMut, BytesMut};

use super::from_server::Fate as FateOfFrame;
use super::names::Names;
use super::relay::{Copy, Lent, Relay};
use crate::protocol::frame::{HEADER_LEN, split_cstr};
use crate::protocol::message::{backend, frontend};
use crate::protocol::{ClientError, Header};
use crate::session::copy_in::{CopyIn, FLUSH, Fate, Known, Plain, is_answer};
use crate::session::filter;
use crate::session::relay::{End, Rest};
use crate::statement::Kind;
use crate::tenant::Scope;

/// A COPY FROM STDIN that the proxy runs.
#[derive(Debug)]
pub(super) enum Copying {
    /// It waits for what is due.
    Waiting(Known, Plain),
    Running(CopyIn),
}

/// Takes one statement of a `Query` if it is such a COPY; the tenant is bound ahead of it.
pub(super) fn take_text(lent: &mut Lent, text: &[u8], kind: &Kind) -> bool {
    if *kind != Kind::CopyFromStdin {
        return false;
    }
    let Some(known) = Known::read(text, lent.bound.server().lexis()) else { return false };
    let plain = Plain::Text(known.text.clone());
    take(lent, known, plain)
}

/// Notes what a portal runs that is bound to a client's statement.
pub(super) fn note_bound(lent: &mut Lent, names: &Names, portal: &[u8], name: &[u8], kind: &Kind) {
    let lexis = lent.bound.server().lexis();
    let definition: Option<&[u8]> = if *kind != Kind::CopyFromStdin {
        None
    } else if name.is_empty() {
        names.unnamed.as_ref().map(|unnamed| &unnamed.definition[..])
    } else {
        names.get(name).map(|statement| &statement.definition()[..])
    };
    let text = definition.and_then(split_cstr).map(|(text, _)| text);
    lent.portals.copies.bound_to(portal, text.and_then(|text| Known::read(text, lexis)));
}

/// Takes an `Execute` of a portal that runs such a COPY.
pub(super) fn take_portal(lent: &mut Lent, portal: &[u8], body: &[u8]) -> bool {
    let Some(known) = lent.portals.copies.portal(portal) else { return false };
    let mut frame = BytesMut::with_capacity(HEADER_LEN + body.len());
    frame.put_u8(frontend::EXECUTE);
    frame.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    frame.put_slice(body);
    let known = Known { text: known.text.clone(), copy: known.copy.clone() };
    take(lent, known, Plain::Frame(frame.freeze()))
}

fn take(lent: &mut Lent, known: Known, plain: Plain) -> bool {
    // The owner's rows are nobody's business.
    if lent.bound.scope() == Scope::Owner || lent.dues.skipping() {
        return false;
    }
    lent.copying = Some(Box::new(Copying::Waiting(known, plain)));
    lent.copy = Copy::Asked;
    if !lent.dues.is_empty() {
        lent.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
    }
    true
}

impl Relay<'_> {
    /// Begins the COPY that waits, if nothing is due any more.
    pub(super) fn begin_copying(&mut self) -> bool {
        let Some(lent) = &mut self.lent else { return false };
        let waits = matches!(lent.copying.as_deref(), Some(Copying::Waiting(..)));
        if !waits || !lent.dues.is_empty() {
            return false;
        }
        let Some(Copying::Waiting(known, plain)) = lent.copying.take().map(|copying| *copying)
        else {
            return false;
        };
        if lent.dues.skipping() {
            // Something ahead of it has failed.
            lent.copy = Copy::None;
            return true;
        }
        lent.again.answered();
        // It makes a table, and names a statement.
        lent.dirty = true;
        lent.settling.unsettle();
        let server = lent.bound.server_mut();
        if matches!(plain, Plain::Text(_)) {
            server.unnamed = 0;
        }
        let out = &mut server.stream.outgoing;
        let running = CopyIn::begin(&known.text, &known.copy, plain, out);
        lent.copying = Some(Box::new(Copying::Running(running)));
        true
    }

    /// Takes a message of the server's; false if more of it has to arrive first.
    pub(super) fn admit_answer(&mut self, header: Header) -> Result<bool, End> {
        if header.tag == backend::READY_FOR_QUERY
            && let Some(lent) = &mut self.lent
        {
            self.client.outgoing.extend_from_slice(&std::mem::take(&mut lent.held));
        }
        match self.admit_copying_answer(header)? {
            Some(is_whole) => Ok(is_whole),
            None => self.admit_server_frame(header),
        }
    }

    /// Takes a message of the server's that belongs to a COPY; `None` if it does not. False: more of
    /// it has to arrive.
    fn admit_copying_answer(&mut self, header: Header) -> Result<Option<bool>, End> {
        let Some(lent) = &mut self.lent else { return Ok(None) };
        let Some(Copying::Running(running)) = lent.copying.as_deref_mut() else { return Ok(None) };
        if !is_answer(header.tag) {
            return Ok(None);
        }
        let look = running.look(header);
        let hides_plans = filter::hides_plans(lent.bound.scope(), self.guard);
        let stream = &mut lent.bound.server_mut().stream;
        let Some(body) = stream.incoming.get(HEADER_LEN..HEADER_LEN + look) else {
            return Ok(Some(false));
        };
        let Ok(fate) = running.answer(header, body, &mut stream.outgoing) else {
            lent.impossible = true;
            return Err(End::Bug("an answer that was not due"));
        };
        let is_told = !matches!(fate, Fate::Drop);
        let limited = if is_told { self.tally.received(header.tag, body)? } else { None };
        let hidden =
            header.tag == backend::NOTICE_RESPONSE && hides_plans && filter::tells_of_plans(body);
        let refused = lent.follow(&fate, look);
        let told = limited.map(Box::new).or(refused);
        let is_script = lent.script.is_some() && !lent.fatal_seen;
        let is_held = is_script && matches!(fate, Fate::Failed(_));
        let out = if is_held { &mut lent.held } else { &mut self.client.outgoing };
        let mut is_forwarded = false;
        match (&fate, told) {
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
        lent.from_server = Rest { bytes: header.frame_len(), dropped: !is_forwarded };
        if matches!(fate, Fate::Failed(_)) {
            self.drop_skipped();
        }
        self.carry_server_bytes();
        Ok(Some(true))
    }
}

impl Lent {
    /// Goes on to what comes next; an error of ours if the client gets that.
    fn follow(&mut self, fate: &Fate, look: usize) -> Option<Box<ClientError>> {
        match fate {
            Fate::Drop | Fate::Forward | Fate::Instead(_) => None,
            Fate::Data => {
                self.copy = Copy::Data;
                None
            }
            Fate::Done(_) => {
                self.end_copying();
                None
            }
            Fate::Failed(_) => {
                self.end_copying();
                match self.fail(look) {
                    FateOfFrame::Refuse(error) => Some(error),
                    FateOfFrame::Drop | FateOfFrame::Forward | FateOfFrame::Instead(_) => None,
                }
            }
        }
    }

    fn end_copying(&mut self) {
        self.copying = None;
        self.copy = Copy::None;
    }
}
