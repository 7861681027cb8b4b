//! Frames that are longer than what is kept of a client's: refused, or passed on as they come.
//!
//! Nobody's session ends because of a length.

use bytes::{Buf, BufMut};

use super::due::{Describe, Due, Execute, Parse, Whose};
use super::from_client::{Admitted, Parts};
use super::names::Unnamed;
use super::relay::{Lent, Relay};
use super::told::Known;
use super::{memory, named, simple};
use crate::backend::Shape;
use crate::protocol::frame::{HEADER_LEN, split_cstr};
use crate::protocol::message::frontend;
use crate::protocol::{ClientError, Header};
use crate::session::filter::statement_refused;
use crate::session::relay::{End, Rest, malformed};
use crate::statement::{Kind, Reading};

const FLUSH: &[u8] = b"H\0\0\0\x04";

/// Shorter frames are not worth a question.
const SHORT: usize = 64 * 1024;

/// What a `Parse` may hold besides its text: a name, and the types of 65,535 parameters.
const BESIDES_TEXT: usize = 512 * 1024;

/// A longer `Query` or `Parse` is not read by anybody, if none is held to a list.
const MOST_READ: usize = 16 << 20;

/// What tells a statement or a portal, and the values of a statement about the identity.
const MOST_VALUES: usize = 256 * 1024;

/// Where the name in a `Parse` must end.
const NAME_WITHIN: usize = 8 * 1024;

impl Lent {
    /// Whether more may be asked before what is due has been answered; if not, the server is asked
    /// for what it has, for the client's Sync may stand far behind.
    pub(super) fn has_room(&mut self) -> bool {
        let was_full = self.dues.is_full();
        let has_room = self.dues.has_room();
        if !has_room && !was_full {
            self.bound.server_mut().stream.outgoing.extend_from_slice(FLUSH);
        }
        has_room
    }
}

impl Parts<'_> {
    /// The error for a text that is too long for tenants, before anybody reads it.
    pub(super) fn too_long(&self, text: &[u8]) -> Option<Box<ClientError>> {
        let refusal = self.guard?.check_length(text.len()).err()?;
        Some(Box::new(statement_refused(refusal)))
    }

    /// The error for a text that tenants may not send.
    pub(super) fn judge(&self, lent: &Lent, text: &[u8]) -> Option<Box<ClientError>> {
        let refusal = self.guard?.judge(text, lent.bound.server().lexis()).err()?;
        Some(Box::new(statement_refused(refusal)))
    }
}

impl Relay<'_> {
    /// Decides about a long frame by its header, or its beginning. `None`: all of it is awaited.
    pub(super) fn admit_long(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        if header.body_len <= SHORT {
            return Ok(None);
        }
        let is_text = matches!(header.tag, frontend::QUERY | frontend::PARSE);
        if is_text && self.guard.is_none() && header.body_len > MOST_READ {
            let begins = self.client.incoming.len() - HEADER_LEN;
            if header.tag == frontend::PARSE && begins < NAME_WITHIN {
                return Ok(Some(Admitted::NotAllThere));
            }
            return self.stream(header).map(Some);
        }
        let refusal = match self.guard {
            Some(guard) if is_text => {
                let besides = if header.tag == frontend::PARSE { BESIDES_TEXT } else { 1 };
                let text = header.body_len.saturating_sub(besides);
                let refused = guard.check_length(text).err();
                refused.map(|refusal| Box::new(statement_refused(refusal)))
            }
            _ if !is_text && header.body_len > MOST_VALUES => Some(Box::new(too_long(header))),
            _ => None,
        };
        let refusal = refusal.or_else(|| self.keep_while_it_comes(header.body_len));
        let Some(refusal) = refusal else { return Ok(None) };
        let Some(lent) = &mut self.lent else { return Ok(Some(Admitted::NeedsServer)) };
        self.names.unnamed = self.names.unnamed.take().filter(|_| header.tag != frontend::QUERY);
        simple::refuse(lent, header.tag, refusal);
        Ok(Some(self.drop_frame(header)))
    }

    fn keep_while_it_comes(&mut self, length: usize) -> Option<Box<ClientError>> {
        if !self.in_band.myself.is_tenants {
            return None;
        }
        let used = self.used();
        self.memory.keep(used, length).err()
    }

    /// The frame has gone on; what is kept of it is counted by itself.
    pub(super) fn forget_what_came(&mut self, header: Header) {
        if header.body_len > SHORT {
            let used = self.used();
            self.memory.settle(used);
        }
    }

    fn used(&self) -> usize {
        let lent = self.lent.as_deref().map_or(0, Lent::kept);
        self.names.bytes() + self.in_band.asking.bytes() + self.memory.settings + lent
    }

    /// Passes on a text that nobody reads, so that its length is no matter.
    fn stream(&mut self, header: Header) -> Result<Admitted, End> {
        let is_tenants = self.in_band.myself.is_tenants;
        let number = self.statements.number();
        let Some(lent) = &mut self.lent else { return Ok(Admitted::NeedsServer) };
        lent.begin(header.tag, &[], true);
        let surroundings = std::sync::Arc::clone(&lent.knowledge.surroundings);
        lent.dirty = true;
        if header.tag == frontend::PARSE {
            let head = self.client.incoming.get(HEADER_LEN..HEADER_LEN + NAME_WITHIN);
            let (name, _) = head.and_then(split_cstr).ok_or_else(|| End::Told(malformed()))?;
            if !name.is_empty() {
                // It would have to be kept.
                let refusal = memory::exceeded(header.body_len, self.memory.limit());
                simple::refuse(lent, header.tag, Box::new(refusal));
                return Ok(self.drop_frame(header));
            }
            self.in_band.asking.forget(name);
            let reading = Reading { kind: Kind::Other, is_clean: false };
            let (definition, is_kept) = (Vec::new(), false);
            let known = Known::new(number, Shape::default());
            let unnamed = Unnamed { number, definition, is_kept, reading, surroundings, known };
            self.names.unnamed = Some(unnamed);
            lent.bound.server_mut().unnamed = number;
            return Ok(self.carry_frame(header, Some(Due::Parse(Parse::Clients))));
        }
        self.names.unnamed = None;
        lent.bound.server_mut().unnamed = 0;
        if !is_tenants && !lent.dues.unsynced() && !lent.dues.skipping() {
            lent.dues.push(Due::Query);
            lent.block.sync();
            lent.block.doubt();
            // What is in it shows when it has been answered.
            lent.holds = true;
            return Ok(self.carry_frame(header, Some(Due::Sync(Whose::Clients))));
        }
        simple::end_skipping(lent);
        // Of several statements Postgres takes none.
        named::account_for(lent, &Kind::Other, false)?;
        lent.block.execute(&Kind::Other);
        lent.dues.push(Due::Parse(Parse::Ours));
        lent.dues.push(Due::Bind(Whose::Ours));
        lent.dues.push(Due::Describe(Describe::QUERY));
        let (whose, kind) = (Whose::Clients, Kind::Other);
        lent.dues.push(Due::Execute(Execute { whose, kind, instead: None }));
        lent.block.sync();
        lent.dues.push(Due::Sync(Whose::Clients));
        let out = &mut lent.bound.server_mut().stream.outgoing;
        let length = 4 + 1 + header.body_len + 2;
        out.put_u8(frontend::PARSE);
        out.put_u32(u32::try_from(length).map_err(|_| End::Told(malformed()))?);
        out.put_u8(0);
        lent.behind_frame = simple::BEHIND_TEXT;
        self.client.incoming.advance(HEADER_LEN);
        self.from_client = Rest { bytes: header.body_len, dropped: false };
        self.carry_client_bytes();
        Ok(Admitted::Yes)
    }
}

fn too_long(header: Header) -> ClientError {
    let message = format!("a message of {} bytes is too long to be read", header.body_len);
    ClientError::error("54000", "C013", message)
        .hint("Names, and the values of statements about the session's identity, are short.")
}
