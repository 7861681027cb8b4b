//! Every message of a client's in every state of a session: it is answered as by Postgres itself, or
//! ends the session.

use std::time::Duration;

use tokio::io::AsyncWriteExt;

use crate::support::postgres::{A, B};
use crate::support::proxy;
use crate::support::wire::{Message, Wire};

/// What a session can be in the middle of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    Idle,
    Open,
    Failed,
    InPipeline,
    AfterError,
    CopyIn,
    /// And with a text that makes the proxy wait for what comes of it.
    CopyInDoubtful,
    CopyInExtended,
    CopyOut,
}

const STATES: [State; 9] = [
    State::Idle,
    State::Open,
    State::Failed,
    State::InPipeline,
    State::AfterError,
    State::CopyIn,
    State::CopyInDoubtful,
    State::CopyInExtended,
    State::CopyOut,
];

/// What a session may send, and two types that it may not.
const TAGS: &str = "QPBEDCHSdcfFXpZ";

/// Larger than what fits between a server and a client that does not read.
const LARGE: &str = "copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout";

impl State {
    async fn enter(self, wire: &mut Wire) {
        let last = match self {
            Self::Idle => return,
            Self::Open | Self::Failed => 'Z',
            Self::InPipeline => '1',
            Self::AfterError => 'E',
            Self::CopyIn | Self::CopyInDoubtful | Self::CopyInExtended => 'G',
            Self::CopyOut => 'H',
        };
        match self {
            Self::Idle | Self::Open => wire.query("begin"),
            Self::Failed => wire.query("begin; select 1/0"),
            Self::InPipeline => wire.parse("", "select 6").flush(),
            Self::AfterError => wire.run("select 1/0").flush(),
            Self::CopyIn => wire.query("copy plain from stdin"),
            Self::CopyInDoubtful => wire.query("copy plain from stdin /* reset */"),
            Self::CopyInExtended => wire.run("copy plain from stdin").sync(),
            Self::CopyOut => wire.query(LARGE),
        };
        wire.send().await;
        assert_eq!(wire.until(last).await.last().unwrap().tag, last, "{self:?}");
    }

    const fn is_copy_in(self) -> bool {
        matches!(self, Self::CopyIn | Self::CopyInDoubtful | Self::CopyInExtended)
    }

    /// Where transaction pooling is known to answer in another way, without harm: it ends a
    /// pipeline that has failed by itself ahead of a Query, and runs what it runs by portals of no
    /// name.
    const fn differs(self, tag: char) -> bool {
        matches!((self, tag), (Self::AfterError, 'Q') | (Self::Open | Self::Failed, 'E'))
    }
}

fn put(wire: &mut Wire, tag: char) {
    match tag {
        'Q' => wire.query("select 7"),
        'P' => wire.parse("", "select 7"),
        'B' => wire.bind("", "", &[]),
        'E' => wire.execute("", 0),
        'D' | 'C' => wire.message(tag, b"S\0"),
        'd' => wire.copy_data(b"1\n"),
        'f' => wire.message('f', b"no\0"),
        // pg_backend_pid(), in binary.
        'F' => wire.message('F', &[0, 0, 7, 0xea, 0, 0, 0, 0, 0, 1]),
        _ => wire.message(tag, b""),
    };
}

/// What comes back for a message and for what brings each session to rest that still is one: the end
/// of a COPY, a Sync, a ROLLBACK. It ends with the answer to a question, or with `!` if there is no
/// session any more.
async fn answers(wire: &mut Wire, state: State, tag: char) -> String {
    state.enter(wire).await;
    put(wire, tag);
    wire.message('f', b"stop\0").sync().query("rollback").query("select 42");
    // Whoever has ended the session does not take all of it.
    let _ = wire.socket.write_all_buf(&mut wire.out).await;
    let mut told = String::new();
    loop {
        match wire.receive().await {
            None => return told + "!",
            Some(Message { tag: 'd', .. }) => {}
            Some(message) if message.tag == 'E' => {
                told.push_str(&format!("E({})", message.field('C')));
            }
            Some(message) => {
                told.push(message.tag);
                if message.tag == 'D' && message.columns() == ["42"] {
                    told.extend(wire.until('Z').await.iter().map(|message| message.tag));
                    return told;
                }
            }
        }
    }
}

#[tokio::test]
async fn every_message_in_every_state_is_answered_as_by_postgres_or_ends_the_session() {
    let proxy = proxy::new().pool_size(1).run().await;
    let superuser = proxy.database.superuser().await;
    let plain = "create table plain (x int); grant insert on plain to it_app";
    superuser.batch_execute(plain).await.unwrap();
    for state in STATES {
        for tag in TAGS.chars() {
            let mut past = super::relay::direct(&proxy).await;
            let past = answers(&mut past, state, tag).await;
            let mut wire = Wire::tenant(&proxy, A).await;
            let through = answers(&mut wire, state, tag);
            let through = tokio::time::timeout(Duration::from_secs(20), through).await;
            let through = through.unwrap_or_else(|_| panic!("{state:?} {tag} hangs"));
            let context = format!("{state:?} {tag}: {through} where Postgres says {past}");
            match (state, tag) {
                (State::InPipeline, 'F') => assert_eq!(through, "E(08P01)!", "{context}"),
                (State::AfterError, 'F') => {
                    assert!(through == past || through == "E(08P01)!", "{context}");
                }
                // Whether it was skipped cannot be told while something waits for the answer.
                (State::CopyInDoubtful, 'S') => {
                    assert!(through == past || through.ends_with("E(08P01)!"), "{context}");
                }
                (_, 'X' | 'p' | 'Z') => assert!(through.ends_with('!'), "{context}"),
                _ if state.is_copy_in() && !"dcfHS".contains(tag) => {
                    assert!(past.ends_with('!'), "{context}");
                    assert!(through.ends_with("E(08P01)!"), "{context}");
                }
                // Called by Postgres, refused by us, and everything else alike.
                (State::Failed, 'F') => {
                    assert_eq!(through, past.replace("25P02", "0A000"), "{context}");
                }
                (_, 'F') => assert_eq!(through, past.replacen('V', "E(0A000)", 1), "{context}"),
                _ if proxy::by_transaction() && state.differs(tag) => {
                    assert!(through.ends_with("TDCZ"), "{context}");
                }
                _ => assert_eq!(through, past, "{context}"),
            }
            drop(wire);
            let mut other = Wire::tenant(&proxy, B).await;
            assert_eq!(other.value("select count(*) from note").await, "5", "{context}");
        }
    }
    proxy.stop().await;
}
