//! What is checked, where it belongs, and what can stop it.

use serde::{Serialize, Serializer};

/// What is tried.
///
/// All but the attacks are tried on every protected table, and are the columns of the report's
/// table, in this order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Check {
    /// A tenant sees all rows that are its own; of a shared table, all.
    Own,
    /// It sees no others, asked for or not.
    Read,
    /// It cannot insert a row for the other tenant.
    Insert,
    /// It cannot update the other's rows.
    Update,
    /// It cannot give a row of its own to the other.
    Move,
    /// It cannot delete the other's rows.
    Delete,
    /// Without a context there are no rows.
    NoContext,
    /// Nothing that it can say makes it somebody else.
    Forge,
    /// The super-admin sees nothing before, and everything after, `enable_superadmin_mode()`.
    Superadmin,
    /// The catalogue holds what the kit has put there, and nothing that weakens it.
    Policies,
    /// Something that a hostile tenant would try.
    Attack(&'static Attack),
}

/// Something that a hostile tenant would try.
#[derive(Debug, Eq, PartialEq)]
pub struct Attack {
    /// Its name in reports. It does not change from one version to the next.
    pub id: &'static str,
    /// The kind of leak.
    pub section: Section,
    /// Where OWASP's cheat sheet asks for it.
    pub owasp: Owasp,
    /// What has to be true, as a sentence.
    pub promise: &'static str,
}

/// The kinds of leaks that a proxy with row-level security can have.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Section {
    /// Saying to be somebody else.
    Context,
    /// Other roles, and what a role may do to itself.
    Roles,
    /// What a transaction's end, or none, does to the context.
    Transactions,
    /// Messages, their order, and connections that break.
    Wire,
    /// What one client leaves on a connection for the next.
    Residue,
    /// What all sessions of one role, or of one database, share.
    Shared,
    /// Statements, views and keys that go around the policies.
    Around,
    /// Startup and tokens.
    Door,
}

/// The best practices of OWASP's Multi-Tenant Application Security Cheat Sheet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Owasp {
    /// The first.
    Context,
    /// The second.
    Database,
    /// The third.
    Access,
    /// The fourth.
    Session,
    /// The fifth.
    Requests,
    /// The sixth.
    Files,
    /// The eighth.
    Monitoring,
}

/// What stopped an attempt, as told by what came back.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// The proxy, before there was a session: startup and token.
    Door,
    /// The proxy, by the type or the order of messages, or by whose they were.
    Wire,
    /// The proxy, by what a statement is.
    Filter,
    /// The database: the role has no right to it.
    Grant,
    /// The database: a policy hid the rows, or refused the row.
    Policy,
    /// The database: the context was not signed for this session.
    Context,
    /// The proxy: what a client left on the connection was gone before the next one had it.
    Scrub,
    /// The database: the key holds the tenant, so that no two tenants meet in it.
    Key,
    /// The database: what runs for the tenant as somebody else is kept to the tenant's rows.
    Guard,
    /// Postgres itself does not do it for anybody, or not here.
    Server,
}

impl Check {
    /// The checks that are made of every table.
    pub const OF_TABLES: [Self; 10] = [
        Self::Own,
        Self::Read,
        Self::Insert,
        Self::Update,
        Self::Move,
        Self::Delete,
        Self::NoContext,
        Self::Forge,
        Self::Superadmin,
        Self::Policies,
    ];

    /// Its name for programs.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Read => "read",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Move => "move",
            Self::Delete => "delete",
            Self::NoContext => "no_context",
            Self::Forge => "forge",
            Self::Superadmin => "superadmin",
            Self::Policies => "policies",
            Self::Attack(attack) => attack.id,
        }
    }

    /// A short name, for the head of a column.
    pub const fn title(self) -> &'static str {
        match self {
            Self::NoContext => "no context",
            Self::Superadmin => "super-admin",
            Self::Own
            | Self::Read
            | Self::Insert
            | Self::Update
            | Self::Move
            | Self::Delete
            | Self::Forge
            | Self::Policies
            | Self::Attack(_) => self.id(),
        }
    }

    /// What has to be true, as a sentence.
    pub const fn promise(self) -> &'static str {
        match self {
            Self::Own => "own rows are visible",
            Self::Read => "cross-tenant reads are blocked",
            Self::Insert => "inserting for another tenant is blocked",
            Self::Update => "updating another tenant's rows is blocked",
            Self::Move => "giving rows to another tenant is blocked",
            Self::Delete => "deleting another tenant's rows is blocked",
            Self::NoContext => "no context, no rows",
            Self::Forge => "a context cannot be forged",
            Self::Superadmin => "the super-admin sees all, once it has said so",
            Self::Policies => "the catalogue is as the kit made it",
            Self::Attack(attack) => attack.promise,
        }
    }

    /// The kind of leak that it looks for.
    pub const fn section(self) -> Section {
        match self {
            Self::NoContext | Self::Forge => Section::Context,
            Self::Superadmin => Section::Roles,
            Self::Own
            | Self::Read
            | Self::Insert
            | Self::Update
            | Self::Move
            | Self::Delete
            | Self::Policies => Section::Around,
            Self::Attack(attack) => attack.section,
        }
    }

    /// Where OWASP's cheat sheet asks for it.
    pub const fn owasp(self) -> Owasp {
        match self {
            Self::NoContext | Self::Forge => Owasp::Context,
            Self::Superadmin => Owasp::Monitoring,
            Self::Policies => Owasp::Database,
            Self::Own | Self::Read | Self::Insert | Self::Update | Self::Move | Self::Delete => {
                Owasp::Access
            }
            Self::Attack(attack) => attack.owasp,
        }
    }
}

impl Section {
    /// Every section, in the report's order.
    pub const ALL: [Self; 8] = [
        Self::Context,
        Self::Roles,
        Self::Transactions,
        Self::Wire,
        Self::Residue,
        Self::Shared,
        Self::Around,
        Self::Door,
    ];

    /// Its number and name.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Context => "1 forging the context",
            Self::Roles => "2 roles",
            Self::Transactions => "3 transactions",
            Self::Wire => "4 wire protocol",
            Self::Residue => "5 residue on the connection",
            Self::Shared => "6 objects and views shared by the role",
            Self::Around => "7 reading and writing around the policy",
            Self::Door => "8 the door",
        }
    }
}

impl Owasp {
    /// The section of the cheat sheet, as it is headed there.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Context => "1. Tenant Identification & Context Management",
            Self::Database => "2. Database Isolation Strategies",
            Self::Access => "3. Preventing Cross-Tenant Data Access (IDOR Prevention)",
            Self::Session => "4. Cache & Session Isolation",
            Self::Requests => "5. API Security & Rate Limiting",
            Self::Files => "6. File Storage & Blob Isolation",
            Self::Monitoring => "8. Logging, Monitoring & Audit",
        }
    }
}

impl Layer {
    /// Its name for people.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Door => "door",
            Self::Wire => "wire",
            Self::Filter => "statement filter",
            Self::Grant => "grant",
            Self::Policy => "policy",
            Self::Context => "signed context",
            Self::Scrub => "pool scrub",
            Self::Key => "key",
            Self::Guard => "guard",
            Self::Server => "Postgres itself",
        }
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.id())
    }
}
