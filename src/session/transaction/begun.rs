//! Messages of which only the beginning is here.

use super::from_client::{Admitted, NAMES_WITHIN};
use super::relay::Relay;
use crate::protocol::Header;
use crate::protocol::frame::HEADER_LEN;
use crate::protocol::message::frontend;
use crate::session::relay::End;

impl Relay<'_> {
    /// Nobody gets a server connection for a message that has only begun: it would be given back,
    /// and wanted again, for as long as the rest does not come.
    pub(super) fn admit_ahead_of_server(&mut self, header: Header) -> Result<Admitted, End> {
        if header.tag == frontend::BIND {
            let look = header.body_len.min(NAMES_WITHIN);
            let Some(head) = self.client.incoming.get(HEADER_LEN..HEADER_LEN + look) else {
                return Ok(Admitted::NotAllThere);
            };
            if !self.in_band.binds(head)? && !self.assigns(head) {
                return Ok(Admitted::NeedsServer);
            }
        }
        if let Some(admitted) = self.admit_long(header)? {
            return Ok(admitted);
        }
        let is_all_there = self.client.incoming.len() >= header.frame_len();
        Ok(if is_all_there { Admitted::NeedsServer } else { Admitted::NotAllThere })
    }
}
