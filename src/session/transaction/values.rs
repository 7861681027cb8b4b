//! Settings that clients change by `set_config()`, also where a `Bind` names them.

use std::sync::Arc;

use super::from_client::{Admitted, Parts};
use super::relay::{Lent, Relay};
use super::{Borrower, named};
use crate::protocol::Header;
use crate::protocol::frame::split_cstr;
use crate::session::relay::{End, malformed};
use crate::session::values::Values;
use crate::statement::{self, Feature, Kind, SettingName};
use crate::types::TenantId;

/// What a statement of such a kind does with the values in the body of a `Bind`.
pub(super) fn assigned(kind: Kind, body: &[u8]) -> Kind {
    let Kind::SetConfig(assignments) = &kind else { return kind };
    let values = Values::read(body);
    let value = |number| values.as_ref().and_then(|values| values.text(number));
    match statement::resolve(assignments, value) {
        Some(settings) if settings.is_empty() => Kind::Rows,
        Some(settings) => Kind::SetConfig(settings),
        None => Kind::Session(Feature::UnnamedSetting),
    }
}

/// `Bind` of such a statement, all of which is there.
fn bind(lent: &mut Lent, parts: &mut Parts<'_>, body: &[u8]) -> Result<(), End> {
    let (_, rest) = split_cstr(body).ok_or_else(|| End::Told(malformed()))?;
    let (name, _) = split_cstr(rest).ok_or_else(|| End::Told(malformed()))?;
    let kind = parts.names.kind(name).cloned().unwrap_or(Kind::Other);
    if let Some(refusal) = named::refusal(&assigned(kind, body), parts) {
        named::refuse(lent, refusal);
        return Ok(());
    }
    let taken = named::bind(lent, parts, body, body.len())?;
    let values = body.get(taken..).unwrap_or_default();
    lent.bound.server_mut().stream.outgoing.extend_from_slice(values);
    Ok(())
}

impl Relay<'_> {
    /// `Bind` of such a statement.
    pub(super) fn bind_assigning(&mut self, header: Header) -> Result<Admitted, End> {
        self.with_body(header, bind)
    }

    /// Whether the values of a `Bind` that begins so have to be read.
    pub(super) fn assigns(&self, head: &[u8]) -> bool {
        let name = split_cstr(head).and_then(|(_, rest)| split_cstr(rest));
        let kind = name.and_then(|(name, _)| self.names.kind(name));
        matches!(kind, Some(Kind::SetConfig(_)))
    }
}

impl Lent {
    /// Such a statement has run: asks for the settings that it names when the transaction is over.
    pub(super) fn note_assigned(&mut self, kind: &Kind) {
        let Kind::SetConfig(assignments) = kind else { return };
        for assignment in assignments.iter() {
            if let SettingName::Known(name) = &assignment.name {
                self.touched.insert(name.clone());
                self.assigned.insert(name.clone());
                self.assigned_for = self.served;
            }
        }
    }
}

impl Borrower {
    /// Notes which settings a function has set for the tenant that the connection has served.
    pub(super) fn keep_assigned(&mut self, lent: &mut Lent) {
        if !lent.assigned.is_empty() {
            self.assigned.extend(std::mem::take(&mut lent.assigned));
            self.assigned_for = lent.served;
        }
    }

    /// Goes back to what the startup asked for, where a function has set something for another
    /// tenant: its value may have come from that one's rows.
    ///
    /// Gives the tenant for whom what is left was set.
    pub(super) fn drop_assigned(&mut self, tenant: Option<TenantId>) -> Option<TenantId> {
        if self.assigned.is_empty() {
            return None;
        }
        if self.assigned_for == tenant {
            return tenant;
        }
        let overrides = Arc::make_mut(&mut self.overrides);
        for name in std::mem::take(&mut self.assigned) {
            overrides.remove(&name);
            if let Some(value) = self.startup.value(&name) {
                overrides.set(name, value.to_owned());
            }
        }
        None
    }
}
