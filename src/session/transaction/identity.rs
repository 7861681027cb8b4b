//! Who a client is, in band: its statements about that, and what the end of a transaction does.
//!
//! Such a statement waits until everything before it is answered, and everything behind it until it
//! is answered itself, in the middle of a pipeline, too: so there is never a doubt about who the
//! next statement is for.

use std::future::poll_fn;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::due::{Due, Execute, Whose};
use super::from_client::{Admitted, Parts};
use super::relay::{Lent, Relay};
use super::tracked::{Ended, Tracked};
use super::{Session, named, simple};
use crate::observe::Event;
use crate::protocol::frame::{HEADER_LEN, split_cstr};
use crate::protocol::{ClientError, Header, Severity};
use crate::session::acting::Who;
use crate::session::asked::{self, Asked, Asking};
use crate::session::identity::{Become, Me, Myself, moved, stays};
use crate::session::relay::{End, malformed};
use crate::statement::identity::{Identification, Mention, Wish};
use crate::statement::{self, Kind, Reading};
use crate::tenant::{Denied, Identities};
use crate::types::{Patience, TenantId};

/// How long a session that has a server connection may wait for a place in a tenant's share: what it
/// has is nobody else's meanwhile.
const SHARE_TIMEOUT: Duration = Duration::from_secs(1);

/// Who the client is, and what it has asked about that.
pub(super) struct InBand {
    pub(super) myself: Myself,
    pub(super) asking: Asking,
    pub(super) resolution: Resolution,
    /// What becomes true when the statement in its place has been answered.
    changing: Option<(Who<Me>, bool)>,
}

/// Where the statement about the identity stands that is next.
#[derive(Default)]
pub(super) enum Resolution {
    /// There is none.
    #[default]
    Nothing,
    /// It has to be found out what it leads to.
    Wanted(Asked),
    /// It leads to this.
    Found(Box<Found>),
}

/// Whom the client will be, and a permit that counts the server connection for that tenant.
pub(super) type Found = Result<(Become, Option<OwnedSemaphorePermit>), Denied>;

impl InBand {
    pub(super) fn new(myself: Myself) -> Self {
        let (asking, resolution) = (Asking::default(), Resolution::Nothing);
        Self { myself, asking, resolution, changing: None }
    }

    /// Whether a text may be about the identity.
    pub(super) fn may_mention(text: &[u8]) -> bool {
        statement::identity::may_mention(text)
    }

    /// What a text is to the identity. Who is not a tenant's has one that stays.
    pub(super) fn mention(&self, text: &[u8]) -> Result<Option<Box<Identification>>, ClientError> {
        match (statement::identity::mention(text), self.myself.is_tenants) {
            (Mention::Statement(found), true) => Ok(Some(found)),
            (Mention::Statement(found), false) if matches!(found.wish, Wish::Token(..)) => {
                Err(asked::not_a_tenant())
            }
            (Mention::Unknown, true) => Err(asked::unknown_form()),
            (Mention::None, _) | (Mention::Statement(_) | Mention::Unknown, false) => Ok(None),
        }
    }

    /// Whether a `Bind` that begins so is of a statement about the identity.
    pub(super) fn binds(&mut self, head: &[u8]) -> Result<bool, End> {
        let split = |bytes| split_cstr(bytes).ok_or_else(|| End::Told(malformed()));
        let (portal, rest) = split(head)?;
        let (name, _) = split(rest)?;
        let is_it = self.asking.wish(name).is_some();
        if !is_it {
            self.asking.bound(portal, None).map_err(End::Told)?;
        }
        Ok(is_it)
    }

    fn tracked(&self) -> Tracked {
        let acting = &self.myself.acting;
        if acting.is_pending() || self.changing.is_some() {
            Tracked::Pending
        } else if acting.is_plain() {
            Tracked::Login
        } else {
            Tracked::InBand
        }
    }

    /// Makes the server connection act for whom the client is now.
    pub(super) fn impress(&self, lent: &mut Lent) {
        lent.tracked = self.tracked();
        let now = self.myself.acting.now();
        lent.lost = now.err();
        if lent.bound.act_for(now.ok().map(|identity| &**identity)) {
            lent.block.doubt();
        }
        if lent.has_served_another(lent.bound.scope()) {
            lent.leave();
        }
    }

    /// Brings a statement about the identity as far as it can be brought now. `None`: something
    /// has to be answered, or found out, first.
    pub(super) fn settle(&mut self, lent: &mut Lent, asked: &Asked) -> Option<Found> {
        if !lent.dues.is_empty() {
            lent.wait_for_answers();
            return None;
        }
        match std::mem::take(&mut self.resolution) {
            Resolution::Found(found) => Some(*found),
            Resolution::Nothing | Resolution::Wanted(_) => {
                self.resolution = Resolution::Wanted(asked.clone());
                None
            }
        }
    }

    /// Does it, with what goes out in its place written by `put`.
    pub(super) fn carry_out(
        &mut self,
        lent: &mut Lent,
        asked: &Asked,
        found: Found,
        put: impl FnOnce(&mut Lent),
    ) {
        let found = found.and_then(|(found, share)| {
            let ran_as_another = lent.ran_as.is_some() && lent.ran_as != found.scope.tenant();
            let is_kept = lent.block.is_open()
                && (lent.has_served_another(found.scope)
                    || lent.holds_assigned_of_another(found.scope));
            // A bind without claims would leave those that went before it.
            let keeps_claims = lent.ran_with_claims && !self.myself.has_claims(&found.who);
            if ran_as_another || is_kept || keeps_claims {
                return Err(stays(moved()));
            }
            Ok((found, share))
        });
        match found {
            Ok((Become { who, is_local, .. }, share)) => {
                if let Some(share) = share {
                    lent.bound.count_for_tenant(share);
                }
                self.changing = Some((who, is_local));
                lent.tracked = Tracked::Pending;
                put(lent);
                lent.wait_for_answers();
            }
            Err(Denied { told, loses_identity }) => {
                if loses_identity {
                    self.myself.refuse(asked, lent.block.is_open());
                    self.impress(lent);
                }
                named::refuse(lent, Box::new(told));
            }
        }
    }

    /// Notes what a statement, or a transaction, has come to.
    pub(super) fn note(&mut self, lent: &mut Lent, ended: Ended) {
        let acting = &mut self.myself.acting;
        match ended {
            Ended::Identity => {
                if let Some((who, is_local)) = self.changing.take() {
                    acting.set(who, is_local, lent.has_savepoint);
                }
            }
            Ended::Commit => acting.commit(),
            Ended::Rollback => acting.roll_back(),
            Ended::RollbackTo => self.myself.roll_back_to_savepoint(),
            Ended::Savepoint => return,
            Ended::Reset if acting.is_plain() => {}
            Ended::Reset => acting.set(Who::Login, false, lent.has_savepoint),
            Ended::Idle { failed } => {
                self.changing = None;
                self.asking.forget_portals();
                if failed { acting.roll_back() } else { acting.commit() }
            }
        }
        self.impress(lent);
    }
}

/// Sends a statement of a `Query` that is about the identity. False: something has to be answered,
/// or found out, first.
pub(super) fn piece(lent: &mut Lent, parts: &mut Parts<'_>, found: &Identification) -> bool {
    let Some(asked) = asked::asked(&found.wish) else {
        named::refuse(lent, Box::new(asked::unreadable()));
        return true;
    };
    let Some(outcome) = parts.in_band.settle(lent, &asked) else { return false };
    parts.in_band.carry_out(lent, &asked, outcome, |lent| {
        let reading = Reading { kind: Kind::Identity, is_clean: true };
        simple::put_piece(lent, &found.text, reading);
    });
    true
}

/// `Bind` of a statement about the identity: its values are read, and a token is taken out.
pub(super) fn bind(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let split = |bytes| split_cstr(bytes).ok_or_else(|| End::Told(malformed()));
    let (portal, rest) = split(body)?;
    let (name, _) = split(rest)?;
    let asking = &mut parts.in_band.asking;
    let Some(wish) = asking.wish(name).cloned() else { return Err(End::Bug("no such wish")) };
    let bound = match asked::bind(&wish, body) {
        Some((asked, clean)) => asking.bound(portal, Some(asked)).map(|()| clean),
        None => Err(asked::unreadable()),
    };
    match bound {
        Ok(clean) => {
            let taken = named::bind(lent, parts, &clean, clean.len())?;
            let values = clean.get(taken..).unwrap_or_default();
            lent.bound.server_mut().stream.outgoing.extend_from_slice(values);
        }
        Err(refusal) => named::refuse(lent, Box::new(refusal)),
    }
    Ok(())
}

impl Relay<'_> {
    /// `Execute` of a portal that is about the identity. `None`: it is about something else.
    pub(super) fn execute_identity(&mut self, header: Header) -> Result<Option<Admitted>, End> {
        let Some(body) = self.client.incoming.get(HEADER_LEN..header.frame_len()) else {
            return Ok(None);
        };
        let (portal, _) = split_cstr(body).ok_or_else(|| End::Told(malformed()))?;
        let Some(asked) = self.in_band.asking.portal(portal).cloned() else { return Ok(None) };
        let Some(lent) = &mut self.lent else { return Ok(Some(Admitted::NeedsServer)) };
        lent.again.answered();
        let Some(found) = self.in_band.settle(lent, &asked) else {
            return Ok(Some(Admitted::NotYet));
        };
        self.in_band.carry_out(lent, &asked, found, |lent| {
            lent.block.execute(&Kind::Identity);
            let (whose, kind) = (Whose::Clients, Kind::Identity);
            lent.dues.push(Due::Execute(Execute { whose, kind, instead: None }));
            asked::put(header.tag, body, &mut lent.bound.server_mut().stream.outgoing);
        });
        Ok(Some(self.drop_frame(header)))
    }
}

impl Session<'_> {
    /// Finds out what a statement about the identity leads to.
    pub(super) async fn identify(&mut self) -> Result<(), End> {
        let Self { relay, common, .. } = self;
        let Resolution::Wanted(asked) = std::mem::take(&mut relay.in_band.resolution) else {
            return Ok(());
        };
        let lent = relay.lent.as_deref();
        let in_block = lent.is_some_and(|lent| lent.block.is_open());
        let served = lent.filter(|lent| lent.is_kept()).and_then(|lent| lent.served);
        // Nothing changes who it is while it waits.
        let myself = relay.in_band.myself.clone();
        let found = tokio::select! {
            biased;
            found = find(&myself, &asked, (in_block, served), &common.identities) => found,
            end = poll_fn(|cx| relay.poll_waiting(cx)) => return Err(end),
        };
        if let Err(Denied { told, .. }) = &found {
            common.observer.observe(Event::IdentityRefused {
                session: myself.id(),
                code: told.code,
                asked_for: asked.tenant_for_log(),
                reason: told.message.to_string(),
            });
        }
        relay.in_band.resolution = Resolution::Found(Box::new(found));
        Ok(())
    }
}

/// Whom the statement makes of the client, with a permit for another tenant's share; unless that
/// one gets another server connection, because this one is kept, and has `served` somebody else.
async fn find(
    myself: &Myself,
    asked: &Asked,
    (in_block, served): (bool, Option<TenantId>),
    identities: &Identities<'_>,
) -> Found {
    let found = myself.find(asked, in_block, identities).await?;
    let leaves = served.is_some() && served != found.scope.tenant();
    let moves = found.scope != myself.scope() && !leaves;
    let share = match &found.who {
        Who::As(identity) if moves => match identity.member() {
            Some(member) => {
                member.server(Patience::new(SHARE_TIMEOUT)).await.map_err(|told| Denied {
                    told: ClientError { severity: Severity::Error, ..told },
                    loses_identity: true,
                })?
            }
            None => None,
        },
        Who::As(_) | Who::Login | Who::Nobody(..) => None,
    };
    Ok((found, share))
}
