//! Why a client gets no session: what it is told, and what the log says.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::{ExchangeError, TenantClaim, Tenants, VerifiedClaims};
use crate::backend;
use crate::config::TenantLookup;
use crate::frontend;
use crate::observe::{Event, Fault, Observer};
use crate::pool::{self, BindError};
use crate::protocol::message::backend::ERROR_RESPONSE;
use crate::protocol::{self, ClientError, Frame, FrameStream};
use crate::tenant::{self, Selection, TenantContext};
use crate::types::SessionId;

/// So long may a client take to accept the reason.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a client gets no session.
#[derive(Debug)]
pub(super) struct Refusal {
    told: Told,
    fault: Fault,
    /// The chain of causes, for our log.
    detail: String,
}

/// What the client is told.
#[derive(Debug)]
enum Told {
    /// In our words.
    Ours(ClientError),
    /// In Postgres' words: the body of its `ErrorResponse`.
    Servers(Bytes),
    /// Nothing: it is gone, or not to be believed.
    Nothing,
}

impl Refusal {
    fn new(told: ClientError, fault: Fault, cause: &dyn Error) -> Self {
        Self { told: Told::Ours(told), fault, detail: chain(cause) }
    }

    pub(super) fn too_many_clients(limit: usize) -> Self {
        let told = ClientError::fatal("53300", "C010", "sorry, too many clients already")
            .hint("The operator can raise max_client_conn.");
        Self { told: Told::Ours(told), fault: Fault::Client, detail: format!("limit {limit}") }
    }

    pub(super) fn no_name() -> Self {
        let told = ClientError::fatal("28000", "C411", "the token does not say who comes")
            .hint("Whoever may see more than one tenant is on record by name: the token needs a claim \"sub\".");
        Self { told: Told::Ours(told), fault: Fault::Client, detail: "no name".into() }
    }

    pub(super) fn no_reason() -> Self {
        let told = ClientError::fatal("28000", "C216", "a super-admin's session needs a reason")
            .hint("Connect with options='-c cloison.reason=…', or with a token that has a claim \"reason\".");
        Self { told: Told::Ours(told), fault: Fault::Client, detail: "no reason".into() }
    }

    pub(super) fn cannot_write() -> Self {
        let told = ClientError::fatal("0A000", "C218", "a super-admin cannot write here")
            .hint("The operator has to serve super-admins by session pooling: pools.superadmin.pool_mode = \"session\".");
        Self { told: Told::Ours(told), fault: Fault::Client, detail: "transaction pooling".into() }
    }

    pub(super) fn acts_for_tenant() -> Self {
        let told = ClientError::fatal("28000", "C219", "who acts for a tenant may write as it may")
            .hint("Say that you mean it: options='-c cloison.tenant=… -c cloison.write=on'. Without cloison.tenant a super-admin's session reads only.");
        Self { told: Told::Ours(told), fault: Fault::Client, detail: "not asked to write".into() }
    }

    /// A tenant that is not served: the log says who was looked for, and how.
    fn of_tenant(refusal: tenant::Refusal, claims: &VerifiedClaims, choice: Option<&str>) -> Self {
        let told = Self::from(refusal);
        let detail = match (refusal, choice, claims.tenants().and_then(Tenants::only)) {
            (tenant::Refusal::NotAllowed | tenant::Refusal::NoneOfThatName, Some(choice), _) => {
                let shown: String = choice.chars().take(255).collect();
                format!("the client chose {shown:?}: {refusal}")
            }
            (tenant::Refusal::Unknown, None, Some(claim)) => looked_up(claims, claim),
            (tenant::Refusal::NotActive(..), None, Some(claim)) => {
                let (path, value) = (claims.named_by().unwrap_or_default(), claim.value());
                format!("{refusal} (claim {path:?} holds {value:?})")
            }
            _ => told.detail,
        };
        Self { detail, ..told }
    }

    pub(super) fn unknown_database(name: &str) -> Self {
        let told = ClientError::fatal("3D000", "C011", format!("database {name:?} does not exist"));
        Self { told: Told::Ours(told), fault: Fault::Client, detail: "unknown database".into() }
    }
}

/// For whom the holder of `claims` acts, or why for nobody.
#[expect(clippy::result_large_err, reason = "as large as what the callers pass on, by await")]
pub(super) fn resolve(
    claims: &VerifiedClaims,
    selection: Selection,
    choice: Option<&str>,
) -> Result<TenantContext, Refusal> {
    let context = TenantContext::resolve(claims, selection);
    context.map_err(|refusal| Refusal::of_tenant(refusal, claims, choice))
}

/// Tells the client, as far as it can be told, and the log.
pub(super) async fn tell(
    (client, refusal): (Option<FrameStream>, Refusal),
    session: SessionId,
    observer: &Observer,
) {
    let Refusal { told, fault, detail } = refusal;
    let (code, sqlstate) = match &told {
        Told::Ours(error) => (error.code, error.sqlstate),
        Told::Servers(_) => ("C306", "server"),
        Told::Nothing => ("C000", "none"),
    };
    observer.observe(Event::ClientRefused { session, fault, code, sqlstate, detail });
    let Some(mut client) = client else { return };
    match told {
        Told::Ours(error) => error.encode(&mut client.outgoing),
        Told::Servers(body) => Frame { tag: ERROR_RESPONSE, body }.encode(&mut client.outgoing),
        Told::Nothing => {}
    }
    // A client that does not listen any more does not have to be told.
    let _ = tokio::time::timeout(TELL_TIMEOUT, client.close_with_last_words()).await;
}

/// A connection that never became a client.
pub(super) fn of_startup(error: frontend::Error) -> (Option<FrameStream>, Refusal) {
    let detail = chain(&error);
    match error {
        frontend::Error::Refused(client, told) => {
            (Some(*client), Refusal { told: Told::Ours(told), fault: Fault::Client, detail })
        }
        frontend::Error::Protocol(_) | frontend::Error::Handshake(_) | frontend::Error::NoAlpn => {
            (None, Refusal { told: Told::Nothing, fault: Fault::Client, detail })
        }
    }
}

/// Which tenant a token names, and by what it was not found.
fn looked_up(claims: &VerifiedClaims, claim: &TenantClaim) -> String {
    let words = |lookup: &[TenantLookup]| -> Vec<&str> {
        lookup.iter().map(|lookup| lookup.as_str()).collect()
    };
    let (path, value) = (claims.named_by().unwrap_or_default(), claim.value());
    let (rule, order) = (claims.issuer(), words(claims.lookup()));
    let not_tried = claims.lookup().iter().filter(|lookup| !claim.lookup().contains(lookup));
    let not_tried: Vec<&str> = not_tried.map(|lookup| lookup.as_str()).collect();
    let left_out = match not_tried.as_slice() {
        [] => String::new(),
        [..] => format!("; the value cannot be an {}", not_tried.join(" or a ")),
    };
    format!(
        "the token names a tenant that does not exist: claim {path:?} holds {value:?}, and no row \
         of cloison.tenants has it as its {} (issuers.{rule}.tenant_lookup = {order:?}{left_out})",
        words(claim.lookup()).join(", nor as its "),
    )
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl From<ClientError> for Refusal {
    fn from(told: ClientError) -> Self {
        let detail = told.message.clone().into_owned();
        Self { told: Told::Ours(told), fault: Fault::Client, detail }
    }
}

impl From<ExchangeError> for Refusal {
    fn from(error: ExchangeError) -> Self {
        if matches!(&error, ExchangeError::Protocol(error) if error.is_disconnect()) {
            return Self { told: Told::Nothing, fault: Fault::Client, detail: chain(&error) };
        }
        Self::new(ClientError::from(&error), error.fault(), &error)
    }
}

impl From<tenant::Refusal> for Refusal {
    fn from(refusal: tenant::Refusal) -> Self {
        Self::new(refusal.into(), Fault::Client, &refusal)
    }
}

impl From<tenant::Error> for Refusal {
    fn from(error: tenant::Error) -> Self {
        let told = ClientError::fatal("08006", "C205", "the proxy cannot ask the database")
            .hint("The proxy's log has the cause.");
        Self::new(told, Fault::Server, &error)
    }
}

impl From<pool::Error> for Refusal {
    fn from(error: pool::Error) -> Self {
        let fault = match &error {
            pool::Error::NoPool(_) => Fault::Proxy,
            pool::Error::Shut
            | pool::Error::LockedOut(_)
            | pool::Error::WaitTimeout(_)
            | pool::Error::Connect(_)
            | pool::Error::Unfit(_)
            | pool::Error::NoMark(_) => Fault::Server,
        };
        match &error {
            pool::Error::Connect(backend::Error::Refused { sqlstate, body, .. })
                if concerns_client(sqlstate) =>
            {
                Self { told: Told::Servers(body.clone()), fault, detail: chain(&error) }
            }
            pool::Error::NoPool(_)
            | pool::Error::Shut
            | pool::Error::LockedOut(_)
            | pool::Error::WaitTimeout(_)
            | pool::Error::Connect(_)
            | pool::Error::Unfit(_)
            | pool::Error::NoMark(_) => Self::new(ClientError::from(&error), fault, &error),
        }
    }
}

impl From<BindError> for Refusal {
    fn from(error: BindError) -> Self {
        Self::new(ClientError::from(&error), Fault::Server, &error)
    }
}

impl From<protocol::Error> for Refusal {
    fn from(error: protocol::Error) -> Self {
        Self { told: Told::Nothing, fault: Fault::Client, detail: chain(&error) }
    }
}

/// Whether Postgres refused the login for what the client asked (a setting's value, an encoding that
/// it cannot convert, the owner's other database) or for a reason that everybody may know (it is full,
/// it is starting), and not for our own login.
fn concerns_client(sqlstate: &str) -> bool {
    ["0A", "22", "3D", "42", "53", "55", "57"].iter().any(|class| sqlstate.starts_with(class))
}
