//! Which answers are due: the protocol's rules on requests and `ReadyForQuery` (pure).
//!
//! Manual: "Message Flow", sections "Simple Query", "Extended Query", "Function Call" and
//! "COPY Operations".

use std::collections::VecDeque;

use super::answer::Answer;
use crate::protocol::TransactionStatus;
use crate::protocol::message::frontend;

/// What has been asked on a server connection and not been answered.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Requests that end in a `ReadyForQuery`, oldest first.
    pending: VecDeque<Request>,
    /// Extended-query messages were sent since the last Sync.
    unsynced: bool,
    /// The server is reading COPY data, and skips every Sync until it ends.
    copy_in: bool,
    /// What the last `ReadyForQuery` said.
    status: TransactionStatus,
    /// More answers came than were asked for.
    unaccountable: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Request {
    /// The end of COPY data. Not answered by itself; marks where a skipped Sync can stand.
    CopyEnd,
    FunctionCall,
    Query,
    Sync,
}

impl Exchange {
    pub(super) const fn new() -> Self {
        Self {
            pending: VecDeque::new(),
            unsynced: false,
            copy_in: false,
            status: TransactionStatus::Idle,
            unaccountable: false,
        }
    }

    /// Notes a frontend message on its way to the server.
    pub(super) fn sent(&mut self, tag: u8) {
        match tag {
            frontend::QUERY => {
                // It ends a pipeline as a Sync would.
                self.unsynced = false;
                self.ask(Request::Query);
            }
            frontend::FUNCTION_CALL => self.ask(Request::FunctionCall),
            // "Flush and Sync messages are ignored while in copy-in mode".
            frontend::SYNC if self.copy_in => {}
            frontend::SYNC => {
                self.unsynced = false;
                self.ask(Request::Sync);
            }
            frontend::COPY_DONE | frontend::COPY_FAIL if self.copy_in => self.copy_in = false,
            // The end of a COPY that has failed, and been answered, already.
            frontend::COPY_DONE | frontend::COPY_FAIL if self.is_settled() => {}
            frontend::COPY_DONE | frontend::COPY_FAIL => self.ask(Request::CopyEnd),
            // A Flush alone asks for nothing.
            frontend::COPY_DATA | frontend::FLUSH => {}
            _ => self.unsynced = true,
        }
    }

    /// Notes an answer to what the client sent.
    pub(super) fn received(&mut self, answer: Answer) {
        match answer {
            Answer::CopyIn => self.begin_copy(),
            Answer::Error { .. } => self.copy_in = false,
            Answer::Ready(status) => {
                self.copy_in = false;
                self.complete();
                match status {
                    Some(status) => self.status = status,
                    None => self.unaccountable = true,
                }
            }
            Answer::Complete { .. } | Answer::Other | Answer::Status | Answer::Unasked => {}
        }
    }

    /// Notes the transaction status after a statement of the proxy's own.
    pub(super) const fn note_status(&mut self, status: TransactionStatus) {
        self.status = status;
    }

    /// Whether everything that was asked has been answered.
    pub(super) fn is_settled(&self) -> bool {
        self.pending() == 0 && !self.unsynced
    }

    /// Whether, besides, no transaction is open.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_settled() && self.status == TransactionStatus::Idle
    }

    /// How many answers are due.
    pub(super) fn pending(&self) -> usize {
        self.pending.iter().filter(|request| **request != Request::CopyEnd).count()
    }

    pub(super) const fn unsynced(&self) -> bool {
        self.unsynced
    }

    pub(super) const fn copy_in(&self) -> bool {
        self.copy_in
    }

    pub(super) const fn status(&self) -> TransactionStatus {
        self.status
    }

    pub(super) const fn unaccountable(&self) -> bool {
        self.unaccountable
    }

    fn ask(&mut self, request: Request) {
        self.pending.push_back(request);
    }

    /// The oldest request turned out to be a COPY: every Sync that was sent ahead of the end of
    /// its data is skipped by the server.
    fn begin_copy(&mut self) {
        self.copy_in = true;
        if self.pending.front() == Some(&Request::Query) {
            if self.pending.get(1) == Some(&Request::CopyEnd) {
                self.pending.remove(1);
                self.copy_in = false;
            }
            return;
        }
        while let Some(request) = self.pending.pop_front() {
            match request {
                Request::Sync => {}
                Request::CopyEnd => {
                    self.copy_in = false;
                    self.unsynced |= !self.pending.contains(&Request::Sync);
                    return;
                }
                // Nothing else is legal in copy-in mode; the server will say so.
                Request::Query | Request::FunctionCall => {
                    self.pending.push_front(request);
                    return;
                }
            }
        }
        // The Sync that ends this pipeline is still to come.
        self.unsynced = true;
    }

    fn complete(&mut self) {
        while self.pending.front() == Some(&Request::CopyEnd) {
            // COPY data outside a COPY is read and dropped.
            self.pending.pop_front();
        }
        if self.pending.pop_front().is_none() {
            self.unaccountable = true;
        }
        while self.pending.front() == Some(&Request::CopyEnd) {
            self.pending.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `>` before what the client sends, `<` before what the server answers.
    fn play(script: &str) -> Exchange {
        let mut exchange = Exchange::new();
        for word in script.split_whitespace() {
            let bytes = word.as_bytes();
            match bytes[0] {
                b'>' => exchange.sent(bytes[1]),
                b'<' => exchange.received(Answer::read(bytes[1], &bytes[2..])),
                _ => panic!("{word}"),
            }
        }
        exchange
    }

    #[track_caller]
    fn check(script: &str, pending: usize, unsynced: bool) {
        let exchange = play(script);
        let got = (exchange.pending(), exchange.unsynced(), exchange.unaccountable());
        assert_eq!(got, (pending, unsynced, false), "{script}");
    }

    #[test]
    fn every_request_is_answered_once() {
        check("", 0, false);
        check(">Q", 1, false);
        check(">Q <C <ZI", 0, false);
        check(">P >B >E", 0, true);
        check(">P >B >E >S", 1, false);
        check(">P >B >E >S <1 <2 <C <ZI", 0, false);
        check(">P >S >P >S >Q <1 <ZI", 2, false);
        check(">F <V <ZI", 0, false);
        check(">H", 0, false);
        // pgjdbc closes a statement ahead of a simple query.
        check(">C >Q <3 <C <ZI", 0, false);
    }

    #[test]
    fn a_sync_inside_copy_data_is_not_answered() {
        // libpq sends a Sync with the COPY and another after its data.
        check(">P >B >E >S <1 <2 <G", 0, true);
        check(">P >B >E >S <1 <2 <G >d >c >S", 1, false);
        check(">P >B >E >S <1 <2 <G >d >c >S <C <ZI", 0, false);
        // All of it sent ahead of the answer.
        check(">P >B >E >S >d >c >S <1 <2 <G <C", 1, false);
        check(">P >B >E >S >d >c >S <1 <2 <G <C <ZI", 0, false);
        // The data was sent ahead, and the Sync behind it was not.
        check(">P >B >E >S >d >c <1 <2 <G <C", 0, true);
        check(">P >B >E >S >d >c <1 <2 <G <C >S <ZI", 0, false);
        // The COPY fails before it begins: both are answered.
        check(">P >B >E >S >d >c >S <E <ZI", 1, false);
        check(">P >B >E >S >d >c >S <E <ZI <ZI", 0, false);
        // Simple protocol.
        check(">Q <G >d >c <C <ZI", 0, false);
        check(">Q >d >c <G <C <ZI", 0, false);
        check(">Q >d >c >Q <G <C <ZI", 1, false);
        check(">Q <G <E <ZI", 0, false);
        // The client learns too late that its COPY has failed; the next one stands for itself.
        check(">Q <G >d <E <ZI >d >c", 0, false);
        check(">Q <G >d <E <ZI >d >c >P >B >E >S <1 <2 <G >d >c >S <C <ZI", 0, false);
    }

    #[test]
    fn answers_that_nobody_asked_for_are_noticed() {
        assert!(play("<ZI").unaccountable());
        assert!(play(">Q <ZI <ZI").unaccountable());
        assert!(play(">Q <Z?").unaccountable());
        assert!(!play(">Q <ZT").unaccountable());
    }

    #[test]
    fn rest_is_outside_a_transaction() {
        assert!(play(">Q <ZI").is_at_rest());
        assert!(!play(">Q <ZT").is_at_rest());
        assert!(!play(">Q <ZE").is_at_rest());
        assert!(!play(">P").is_at_rest());
        assert!(!play(">Q").is_at_rest());
    }

    proptest! {
        #[test]
        fn no_order_of_messages_is_at_rest_with_answers_due(
            messages in prop::collection::vec((any::<bool>(), any::<u8>(), any::<Option<u8>>()), 0..64),
        ) {
            let mut exchange = Exchange::new();
            for (from_client, tag, status) in messages {
                if from_client {
                    exchange.sent(tag);
                } else {
                    exchange.received(Answer::read(tag, status.as_slice()));
                }
                prop_assert!(!exchange.is_at_rest() || exchange.pending() == 0);
            }
        }
    }
}
