//! Which answers are due: the protocol's rules on requests and `ReadyForQuery` (pure).
//!
//! Manual: "Message Flow", sections "Simple Query", "Extended Query", "Function Call" and
//! "COPY Operations".

use std::collections::VecDeque;

use super::answer::Answer;
use crate::protocol::TransactionStatus;
use crate::protocol::message::frontend;
use crate::scan;

/// What has been asked on a server connection and not been answered.
#[derive(Debug)]
pub(super) struct Exchange {
    /// Requests that end in a `ReadyForQuery`, oldest first.
    pending: VecDeque<Request>,
    /// How many of them are answered by a `ReadyForQuery` of their own.
    answered: usize,
    /// How many of them are Syncs.
    syncs: usize,
    /// Extended-query messages were sent since the last Sync.
    unsynced: bool,
    /// How many, each of which has one answer.
    asked: u64,
    /// Such answers since the last `ReadyForQuery`: once every Sync is answered, those to `asked`.
    replied: u64,
    /// The server is reading COPY data, and skips every Sync until it ends.
    copy_in: bool,
    /// An error was answered, and the server skips everything up to a Sync that is still to come.
    failed: bool,
    /// Syncs that the server skips if the COPY that is under way goes well.
    skipped: usize,
    /// What the last `ReadyForQuery` said.
    status: TransactionStatus,
    /// The count of answers cannot be relied on: such a connection is never used again.
    unaccountable: bool,
    /// An answer came that cannot belong to anything.
    impossible: bool,
}

/// Requests that may be pending. Each is looked at a few times, and takes a byte.
const MOST_PENDING: usize = 1024;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Request {
    /// The end of COPY data. Not answered by itself; marks where a skipped Sync can stand.
    CopyEnd,
    FunctionCall,
    Query,
    Sync,
    /// Extended-query messages, any number. Not answered by a `ReadyForQuery`; one of them may
    /// turn out to be a COPY.
    Work,
}

impl Request {
    /// Whether a `ReadyForQuery` of its own answers it.
    const fn is_answered(self) -> bool {
        match self {
            Self::FunctionCall | Self::Query | Self::Sync => true,
            Self::CopyEnd | Self::Work => false,
        }
    }
}

impl Exchange {
    pub(super) const fn new() -> Self {
        Self {
            pending: VecDeque::new(),
            answered: 0,
            syncs: 0,
            unsynced: false,
            asked: 0,
            replied: 0,
            copy_in: false,
            failed: false,
            skipped: 0,
            status: TransactionStatus::Idle,
            unaccountable: false,
            impossible: false,
        }
    }

    /// Notes a frontend message on its way to the server.
    pub(super) fn sent(&mut self, tag: u8) {
        match tag {
            frontend::QUERY => {
                self.unaccountable |= self.copy_in || self.failed;
                // It ends a pipeline as a Sync would.
                self.unsynced = false;
                self.asked = 0;
                self.ask(Request::Query);
            }
            frontend::FUNCTION_CALL => {
                self.unaccountable |= self.copy_in || self.failed;
                self.ask(Request::FunctionCall);
            }
            // "Flush and Sync messages are ignored while in copy-in mode".
            frontend::SYNC if self.copy_in => self.skipped += 1,
            frontend::SYNC => {
                self.unsynced = false;
                self.asked = 0;
                self.failed = false;
                self.ask(Request::Sync);
            }
            frontend::COPY_DONE | frontend::COPY_FAIL if self.copy_in => self.copy_in = false,
            // The end of a COPY that has failed, and been answered, already.
            frontend::COPY_DONE | frontend::COPY_FAIL if self.is_settled() => {}
            // Nobody sends so many for a COPY; which of them one would be the end of, is not known.
            frontend::COPY_DONE | frontend::COPY_FAIL if self.is_full() => {
                self.unaccountable = true;
            }
            frontend::COPY_DONE | frontend::COPY_FAIL => self.ask(Request::CopyEnd),
            // A Flush alone asks for nothing.
            frontend::COPY_DATA | frontend::FLUSH => {}
            _ => {
                // In copy-in mode the server takes it for an error of the COPY.
                self.unaccountable |= self.copy_in;
                self.unsynced = true;
                self.asked += 1;
                if self.pending.back() != Some(&Request::Work) {
                    self.ask(Request::Work);
                }
            }
        }
    }

    /// Notes an answer to what the client sent.
    pub(super) fn received(&mut self, answer: Answer) {
        match answer {
            Answer::CopyIn => self.begin_copy(),
            // The first completion or error after the server asked for data is that COPY's.
            Answer::Complete { .. } => {
                self.skipped = 0;
                self.replied += 1;
            }
            Answer::Reply => self.replied += 1,
            Answer::Error { .. } => self.fail(),
            Answer::Ready(status) => {
                self.copy_in = false;
                self.replied = 0;
                self.complete();
                match status {
                    Some(status) => self.status = status,
                    None => self.impossible = true,
                }
            }
            Answer::Other | Answer::Status | Answer::Unasked => {}
        }
    }

    /// Whether everything up to here has been answered, or will not be before a Sync.
    pub(super) const fn is_answered(&self) -> bool {
        self.pending() == 0 && self.is_replied()
    }

    /// All of a pipeline has been answered, and well: so no later answer is about that.
    pub(super) fn settle_work(&mut self) {
        if self.is_answered() && !self.failed {
            self.pending.clear();
        }
    }

    /// Whether the server skips what comes, up to a Sync.
    pub(super) const fn is_failed(&self) -> bool {
        self.failed
    }

    /// Notes the transaction status after a statement of the proxy's own.
    pub(super) const fn note_status(&mut self, status: TransactionStatus) {
        self.status = status;
    }

    /// Whether everything that was asked has been answered.
    pub(super) const fn is_settled(&self) -> bool {
        self.pending() == 0 && !self.unsynced
    }

    /// Whether the server does nothing until the client sends more: data of a COPY, or the Sync of
    /// a pipeline of which everything has been answered.
    pub(super) const fn waits_for_client(&self) -> bool {
        self.copy_in || self.unsynced && self.pending() == 0 && self.is_replied()
    }

    /// Whether answers may be held back until the client sends a Sync.
    pub(super) const fn may_hold_answers(&self) -> bool {
        !self.copy_in && self.unsynced && self.pending() == 0 && !self.is_replied()
    }

    /// Whether what was asked since the last Sync has been answered, or will be skipped.
    const fn is_replied(&self) -> bool {
        self.failed || self.replied >= self.asked
    }

    /// Whether, besides, no transaction is open.
    pub(super) fn is_at_rest(&self) -> bool {
        self.is_settled() && self.status == TransactionStatus::Idle
    }

    /// How many answers are due.
    pub(super) const fn pending(&self) -> usize {
        self.answered
    }

    /// Whether so much is pending that no more is to be asked before some of it is answered.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() >= MOST_PENDING
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

    /// Whether the count of answers cannot be relied on.
    pub(super) const fn unaccountable(&self) -> bool {
        self.unaccountable || self.impossible
    }

    /// Whether an answer came that cannot belong to anything.
    pub(super) const fn impossible(&self) -> bool {
        self.impossible
    }

    fn ask(&mut self, request: Request) {
        self.answered += usize::from(request.is_answered());
        self.syncs += usize::from(request == Request::Sync);
        self.pending.push_back(request);
    }

    /// Takes a request out that is not pending any more.
    fn take(&mut self, at: usize) -> Option<Request> {
        let request = self.pending.remove(at)?;
        self.answered -= usize::from(request.is_answered());
        self.syncs -= usize::from(request == Request::Sync);
        Some(request)
    }

    /// The oldest request turned out to be a COPY: every Sync that was sent ahead of the end of
    /// its data is skipped by the server.
    fn begin_copy(&mut self) {
        while self.pending.front() == Some(&Request::CopyEnd) {
            // COPY data ahead of the COPY was read and dropped.
            self.take(0);
        }
        let is_extended = match self.pending.front() {
            Some(Request::Query) => false,
            Some(Request::Work) => true,
            Some(Request::CopyEnd | Request::FunctionCall | Request::Sync) | None => {
                self.impossible = true;
                return;
            }
        };
        self.copy_in = true;
        // Whether the COPY is the work's, or that of a query behind it, cannot be told.
        self.unaccountable |= is_extended && self.work_runs_into_a_query();
        while self.pending.get(1) == Some(&Request::Sync) {
            self.take(1);
            self.skipped += 1;
        }
        match self.pending.get(1) {
            None => {}
            Some(Request::CopyEnd) => {
                self.take(1);
                self.copy_in = false;
                // More work in the same pipeline: the end may be a stray one, ahead of its COPY.
                self.unaccountable |=
                    matches!(self.pending.get(1), Some(Request::CopyEnd | Request::Work));
            }
            // Inside COPY data the server takes these for errors; unless the COPY is theirs.
            Some(_) => self.unaccountable = true,
        }
        // The Sync that ends this pipeline is still to come, and so is the answer to the COPY.
        self.unsynced |= is_extended && self.syncs == 0;
        self.asked = self.asked.max(self.replied + 1);
    }

    /// Whether the next request that is answered by a `ReadyForQuery` is no Sync.
    fn work_runs_into_a_query(&self) -> bool {
        let answered = self.pending.iter().position(|request| request.is_answered());
        scan::step(answered.unwrap_or(self.pending.len()));
        matches!(
            answered.and_then(|at| self.pending.get(at)),
            Some(Request::Query | Request::FunctionCall)
        )
    }

    /// Something failed.
    ///
    /// If it was a COPY: the server skips a Sync that it reads before it fails and answers one
    /// that it reads after, and which it was, nobody can tell from here. If it was an
    /// extended-query message, the server skips everything up to the next Sync.
    fn fail(&mut self) {
        self.copy_in = false;
        if self.pending.front() == Some(&Request::Work) {
            // Whether the work failed, and the query is skipped, or the query itself.
            self.unaccountable |= self.work_runs_into_a_query();
            self.failed = self.pending() == 0;
        }
        self.unaccountable |= self.skipped > 0;
        self.skipped = 0;
    }

    fn complete(&mut self) {
        while let Some(request) = self.take(0) {
            if request.is_answered() {
                return;
            }
        }
        // Once the count is known to be unreliable, one answer more proves nothing.
        self.impossible |= !self.unaccountable;
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
    fn a_pipeline_without_a_sync_waits_for_its_client_once_it_is_answered() {
        let waits = |script: &str| {
            let exchange = play(script);
            (exchange.waits_for_client(), exchange.may_hold_answers())
        };
        assert_eq!(waits(">P >B >E"), (false, true));
        assert_eq!(waits(">P >B >E >H <1 <2 <D"), (false, true));
        assert_eq!(waits(">P >B >D >E >H <1 <2 <T <D <C"), (true, false));
        assert_eq!(waits(">P >D >H <1 <t <n"), (true, false));
        assert_eq!(waits(">P >B >E >H <1 <2 <s >E"), (false, true));
        assert_eq!(waits(">P >B >E >H <1 <E"), (true, false));
        assert_eq!(waits(">P >B >E >S"), (false, false));
        assert_eq!(waits(">P >B >E >S >P >B >E >H <1 <2 <C"), (false, false));
        assert_eq!(waits(">P >B >E >S >P >B >E >H <1 <2 <C <ZI <1 <2"), (false, true));
        assert_eq!(waits(">P >B >E >S >P >B >E >H <1 <2 <C <ZI <1 <2 <I"), (true, false));
        assert_eq!(waits(">Q <T <D"), (false, false));
        assert_eq!(waits(">Q <G"), (true, false));
        assert_eq!(waits(">P >B >E >S <1 <2 <G >d"), (true, false));
        assert_eq!(waits(">P >B >E >S <1 <2 <G >d >c"), (false, true));
        assert_eq!(waits(">P >B >E >S <1 <2 <G >d >c <C"), (true, false));
        assert_eq!(waits(">Q <T <D <C <ZI"), (false, false));
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
    fn what_is_pending_is_counted_and_not_looked_for() {
        crate::scan::tests::is_linear("exchange", |text| {
            let mut exchange = Exchange::new();
            for byte in text {
                exchange.sent(if byte % 2 == 0 { frontend::SYNC } else { frontend::QUERY });
                crate::scan::step(1 + exchange.pending() / (MOST_PENDING + 1));
                if exchange.is_full() {
                    exchange.received(Answer::read(b'Z', b"I"));
                }
            }
            assert!(exchange.pending() <= MOST_PENDING);
        });
        // A client may send these past the limit: they belong to a COPY, if there is one.
        let mut exchange = play(">P");
        for _ in 0..3 * MOST_PENDING {
            exchange.sent(frontend::COPY_DONE);
            exchange.sent(frontend::COPY_FAIL);
        }
        assert!(exchange.pending.len() <= MOST_PENDING && exchange.unaccountable());
        let mut exchange = play(">S >S >Q >P >B >E >S");
        assert_eq!((exchange.pending(), exchange.syncs), (4, 3));
        for left in [3, 2, 1, 0] {
            exchange.received(Answer::read(b'Z', b"I"));
            assert_eq!(exchange.pending(), left);
        }
        assert_eq!((exchange.syncs, exchange.pending.len()), (0, 0));
        assert!(exchange.is_settled());
    }

    #[test]
    fn answers_that_nobody_asked_for_are_noticed() {
        assert!(play("<ZI").impossible());
        assert!(play(">Q <ZI <ZI").impossible());
        assert!(play(">Q <Z?").impossible());
        assert!(!play(">Q <ZT").unaccountable());
    }

    #[test]
    fn a_sync_near_a_copy_that_failed_makes_the_count_unreliable() {
        // The server fails on the data before it reads the Sync, or after: the same from here.
        let skewed = ">P >B >E >d >S >c <1 <2 <G <E <ZI";
        assert!(play(skewed).unaccountable() && !play(skewed).impossible());
        let simple = ">Q <G >d >S >Q <E <ZI <ZI";
        assert!(play(simple).unaccountable() && !play(simple).impossible());
        // libpq's COPY with its Sync ahead, failed: the session goes on, its connection does not.
        let libpq = ">P >B >E >S <1 <2 <G >d <E >c >S <ZI";
        assert!(play(libpq).unaccountable() && !play(libpq).impossible());
        // Answered after all.
        assert!(!play(">P >B >E >S <1 <2 <G >d <E <ZI >c >S <ZI").impossible());
        // A COPY that went well leaves no doubt.
        assert!(!play(">P >B >E >S <1 <2 <G >d >c >S <C <ZI").unaccountable());
    }

    #[test]
    fn rest_is_outside_a_transaction() {
        assert!(play(">Q <ZI").is_at_rest());
        assert!(!play(">Q <ZT").is_at_rest());
        assert!(!play(">Q <ZE").is_at_rest());
        assert!(!play(">P").is_at_rest());
        assert!(!play(">Q").is_at_rest());
    }

    /// What a client may send; a server that obeys the manual answers it below.
    #[derive(Clone, Copy, Debug)]
    enum Sent {
        CopyData,
        CopyDone,
        CopyExecute,
        CopyQuery,
        Execute,
        Query,
        Sync,
    }

    impl Sent {
        const ALL: [Self; 7] = [
            Self::CopyData,
            Self::CopyDone,
            Self::CopyExecute,
            Self::CopyQuery,
            Self::Execute,
            Self::Query,
            Self::Sync,
        ];

        const fn tag(self) -> u8 {
            match self {
                Self::CopyData => b'd',
                Self::CopyDone => b'c',
                Self::CopyExecute | Self::Execute => b'E',
                Self::CopyQuery | Self::Query => b'Q',
                Self::Sync => b'S',
            }
        }
    }

    /// The server's rules on COPY and Sync: it reads one message at a time.
    #[derive(Default)]
    struct Model {
        copying: Option<bool>,
        skips_to_sync: bool,
    }

    impl Model {
        /// Reads a message and answers; data makes a COPY fail if `fails`.
        fn read(&mut self, sent: Sent, fails: bool) -> &'static [&'static [u8]] {
            if let Some(extended) = self.copying {
                let over = match sent {
                    Sent::CopyData => fails,
                    Sent::Sync => false,
                    Sent::CopyDone
                    | Sent::CopyExecute
                    | Sent::CopyQuery
                    | Sent::Execute
                    | Sent::Query => true,
                };
                if !over {
                    return &[];
                }
                self.copying = None;
                let done = matches!(sent, Sent::CopyDone) && !fails;
                self.skips_to_sync = extended && !done;
                return match (done, extended) {
                    (true, true) => &[b"C"],
                    (true, false) => &[b"C", b"ZI"],
                    (false, true) => &[b"E"],
                    (false, false) => &[b"E", b"ZI"],
                };
            }
            if self.skips_to_sync && !matches!(sent, Sent::Sync) {
                return &[];
            }
            match sent {
                Sent::CopyData | Sent::CopyDone => &[],
                Sent::CopyExecute => {
                    self.copying = Some(true);
                    &[b"G"]
                }
                Sent::CopyQuery => {
                    self.copying = Some(false);
                    &[b"G"]
                }
                Sent::Execute => &[b"C"],
                Sent::Query => &[b"C", b"ZI"],
                Sent::Sync => {
                    self.skips_to_sync = false;
                    &[b"ZI"]
                }
            }
        }
    }

    proptest! {
        /// However client, server and wire interleave: a connection that looks clean has nothing
        /// on its way.
        #[test]
        fn nothing_is_due_on_a_connection_that_looks_clean(
            sent in prop::collection::vec((prop::sample::select(&Sent::ALL[..]), any::<bool>()), 0..12),
            order in prop::collection::vec(0u8..3, 0..120),
        ) {
            let (mut exchange, mut model) = (Exchange::new(), Model::default());
            let mut to_send = sent.iter().copied().collect::<VecDeque<_>>();
            let mut to_server = VecDeque::new();
            let mut to_client = VecDeque::<&[u8]>::new();
            for step in order.into_iter().chain([0, 1, 2].into_iter().cycle().take(120)) {
                match step {
                    0 => if let Some((message, fails)) = to_send.pop_front() {
                        exchange.sent(message.tag());
                        to_server.push_back((message, fails));
                    },
                    1 => if let Some((message, fails)) = to_server.pop_front() {
                        to_client.extend(model.read(message, fails));
                    },
                    _ => if let Some(answer) = to_client.pop_front() {
                        exchange.received(Answer::read(answer[0], &answer[1..]));
                    },
                }
                let clean = exchange.is_at_rest() && !exchange.unaccountable();
                let due = !to_client.is_empty()
                    || model.copying.is_some()
                    || to_server.iter().any(|(message, _)| {
                        !matches!(message, Sent::CopyData | Sent::CopyDone)
                    });
                prop_assert!(!clean || !due, "{exchange:?} after {sent:?}");
            }
            let all_answered = to_send.is_empty()
                && to_server.is_empty()
                && to_client.is_empty()
                && model.copying.is_none()
                && !model.skips_to_sync;
            let waits = exchange.pending() > 0 && !exchange.unaccountable();
            prop_assert!(!all_answered || !waits, "{exchange:?} waits for ever after {sent:?}");
        }
    }
}
