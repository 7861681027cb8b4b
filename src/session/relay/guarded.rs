//! Texts that a tenant may not send, where the server reads the client's own messages.
//!
//! In place of such a text the server gets one that it cannot parse: so a transaction fails, a
//! pipeline is skipped, and the answers come, as with any other error. The client gets our error
//! in place of the server's, which names what it could not parse.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};

use super::{End, malformed};
use crate::guard::{Guard, Refusal};
use crate::protocol::frame::split_cstr;
use crate::protocol::message::{self, frontend};
use crate::protocol::{ClientError, Header};
use crate::session::asked;
use crate::session::filter::statement_refused;
use crate::session::memory::Memory;
use crate::statement::identity::{Mention, Wish};
use crate::statement::{self, Lexis};
use crate::tenant;

/// What a `Parse` may hold besides its text: a name, and the types of 65,535 parameters.
const BESIDES_TEXT: usize = 512 * 1024;

/// Shorter texts are not worth a count.
const SHORT: usize = 64 * 1024;

/// A longer text, where nobody judges or records texts, is not one that sets a token, which has
/// 64 KiB at most.
const MOST_WITH_TOKEN: usize = 128 * 1024;

/// Refusals that may be due before the client's next text waits.
const MOST: usize = 1000;

/// A word that the server cannot parse; a number follows.
const WORD: &str = "cloison_refused_";

/// The guard, and the refusals that are due.
pub(super) struct Guarded<'a> {
    guard: Option<&'a Guard>,
    is_tenants: bool,
    /// Texts are on record, where those that set a token are left out as not run.
    is_recorded: bool,
    /// Number of the last refusal.
    last: u64,
    /// Oldest first. One that the server skipped stays until all is answered.
    due: VecDeque<(u64, Box<ClientError>)>,
    /// Something has passed that may change how the server reads the texts behind it.
    may_set: bool,
    /// One was refused since the last Sync: the server skips everything behind it.
    skips: bool,
    /// Counts the long text that has begun to arrive.
    memory: Memory,
}

/// What becomes of the next text.
pub(super) enum Judged {
    Passes,
    Refused(Box<ClientError>),
}

impl<'a> Guarded<'a> {
    pub(super) const fn new(
        guard: Option<&'a Guard>,
        is_tenants: bool,
        is_recorded: bool,
        memory: Memory,
    ) -> Self {
        Self {
            guard,
            is_tenants,
            is_recorded,
            memory,
            last: 0,
            due: VecDeque::new(),
            may_set: false,
            skips: false,
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.due.len() >= MOST
    }

    /// Whether the settings that the server has told of may not be those that it reads the next text
    /// with, while something is not answered.
    pub(super) const fn may_set(&self) -> bool {
        self.may_set
    }

    /// Counts a long text while it comes in, up to [`Self::passed`]. The error where the tenant's
    /// sessions keep too much already.
    pub(super) fn keep(&mut self, header: Header) -> Result<(), Box<ClientError>> {
        let longest = self.guard.map_or(MOST_WITH_TOKEN, Guard::longest);
        // A longer one is refused, or passes as it comes.
        let is_kept = header.body_len <= longest.saturating_add(BESIDES_TEXT);
        if header.body_len <= SHORT || !is_kept {
            return Ok(());
        }
        self.memory.keep(0, header.body_len)
    }

    /// The text has gone on.
    pub(super) fn passed(&mut self) {
        self.memory.settle(0);
    }

    /// Judges the text of a frame, of which `body` may be the beginning. `None`: more of it has to
    /// arrive first.
    pub(super) fn judge(
        &mut self,
        header: Header,
        body: &[u8],
        lexis: Lexis,
    ) -> Result<Option<Judged>, End> {
        let longest = match self.guard {
            Some(guard) => guard.longest(),
            None if self.is_recorded => usize::MAX,
            None => MOST_WITH_TOKEN,
        };
        if self.guard.is_none() && header.body_len > longest {
            return Ok(Some(Judged::Passes));
        }
        if header.body_len > longest.saturating_add(BESIDES_TEXT) {
            let refusal = Refusal::TooLong { length: header.body_len, longest };
            return Ok(Some(Judged::Refused(Box::new(statement_refused(refusal)))));
        }
        let Some(body) = body.get(..header.body_len) else { return Ok(None) };
        let split = |bytes| split_cstr(bytes).ok_or_else(|| End::Told(malformed()));
        let text = match header.tag {
            frontend::PARSE => split(split(body)?.1)?.0,
            _ => split(body)?.0,
        };
        if let Some(Err(refusal)) = self.guard.map(|guard| guard.check_length(text.len())) {
            return Ok(Some(Judged::Refused(Box::new(statement_refused(refusal)))));
        }
        if let Some(error) = self.refuse_identity(text) {
            return Ok(Some(Judged::Refused(Box::new(error))));
        }
        Ok(Some(match self.guard.map_or(Ok(true), |guard| guard.judge_settings(text, lexis)) {
            Ok(keeps_settings) => {
                self.may_set |= !keeps_settings;
                Judged::Passes
            }
            Err(refusal) => Judged::Refused(Box::new(statement_refused(refusal))),
        }))
    }

    /// A token is nothing for the server, and here it makes nobody somebody else. Nor does a choice.
    fn refuse_identity(&self, text: &[u8]) -> Option<ClientError> {
        match (statement::identity::mention(text), self.is_tenants) {
            (Mention::Statement(found), is_tenants) if matches!(found.wish, Wish::Token(..)) => {
                Some(if is_tenants { asked::has_its_tenant() } else { asked::not_a_tenant() })
            }
            // Postgres would speak of a malformed uuid, or of a right that is missing.
            (Mention::Statement(found), true) if matches!(found.wish, Wish::Tenant(_)) => {
                Some(tenant::has_its_tenant())
            }
            (Mention::Unknown, true) => Some(asked::unknown_form()),
            (Mention::None | Mention::Statement(_) | Mention::Unknown, _) => None,
        }
    }

    /// Notes a refusal, and writes what the server gets in place of a `Query` or a `Parse`.
    pub(super) fn refuse(&mut self, tag: u8, error: Box<ClientError>, out: &mut BytesMut) {
        if !self.skips {
            self.last += 1;
            self.due.push_back((self.last, error));
        }
        self.skips |= tag == frontend::PARSE;
        let text = format!("{WORD}{}\0", self.last);
        let (before, behind): (&[u8], &[u8]) = match tag {
            frontend::PARSE => (b"\0", b"\0\0"),
            _ => (b"", b""),
        };
        let length = 4 + before.len() + text.len() + behind.len();
        out.put_u8(tag);
        out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
        out.put_slice(before);
        out.put_slice(text.as_bytes());
        out.put_slice(behind);
    }

    /// Takes the refusal whose text the server could not parse, if this is that error.
    pub(super) fn take(&mut self, body: &[u8]) -> Option<Box<ClientError>> {
        if self.due.is_empty() || message::error_field(body, b'C') != Some("42601") {
            return None;
        }
        let (_, rest) = message::error_field(body, b'M')?.split_once(WORD)?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest.get(..digits)?.parse().ok()?;
        // What was skipped before is not answered any more.
        while self.due.front().is_some_and(|(due, _)| *due < number) {
            self.due.pop_front();
        }
        match self.due.front() {
            Some((due, _)) if *due == number => self.due.pop_front().map(|(_, error)| error),
            _ => None,
        }
    }

    /// Everything is answered: what was skipped will not be.
    pub(super) fn settle(&mut self) {
        self.due.clear();
        self.skips = false;
    }

    /// A Sync goes out.
    pub(super) const fn synced(&mut self) {
        self.skips = false;
    }
}
