//! One statement of the tree that the grammar makes: is its kind on the list?
//!
//! Only the top of a tree is looked at. What stands further down reads and writes rows, which is
//! the policies' business; the grammar lets no command stand inside a query.

use pg_raw_parse::nodes::{
    CopyStmt, CreateTableAsStmt, DropStmt, ExplainStmt, RangeVar, SelectStmt, TransactionStmt,
    VariableSetStmt,
};
use pg_raw_parse::raw::{ObjectType, TransactionStmtKind, VariableSetKind};
use pg_raw_parse::{ConstValue, Node};

use super::settings::may_change;
use super::{Policy, Refusal, Whose};

/// Kinds of statements that an operator can give back to tenants.
///
/// Not among them: who the session is, roles and grants, files and programs of the server, what
/// concerns the whole server, and `TRUNCATE`, to which policies do not apply.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Group {
    /// `CREATE`, `ALTER`, `DROP`, `COMMENT`: the schema.
    Ddl,
    /// `DO`: code that no operator has read.
    Do,
    /// `EXPLAIN`, and messages of the levels LOG, DEBUG and INFO: plans and estimates, which are made
    /// from all tenants' rows.
    Explain,
    /// `LISTEN` and `NOTIFY`: channels are the whole database's.
    Listen,
    /// `LOCK`: it keeps other tenants waiting.
    Lock,
    /// `VACUUM`, `ANALYZE`, `REINDEX`, `CLUSTER`, `REFRESH MATERIALIZED VIEW`.
    Maintenance,
    /// `PREPARE TRANSACTION` and what ends one: it outlives the session, with its locks.
    PrepareTransaction,
    /// `CREATE TEMPORARY TABLE`, `SELECT INTO TEMPORARY`, `DROP TABLE`.
    TemporaryTables,
}

impl Group {
    /// All, by name.
    pub const ALL: [Self; 8] = [
        Self::Ddl,
        Self::Do,
        Self::Explain,
        Self::Listen,
        Self::Lock,
        Self::Maintenance,
        Self::PrepareTransaction,
        Self::TemporaryTables,
    ];

    /// The name in a configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ddl => "ddl",
            Self::Do => "do",
            Self::Explain => "explain",
            Self::Listen => "listen",
            Self::Lock => "lock",
            Self::Maintenance => "maintenance",
            Self::PrepareTransaction => "prepare transaction",
            Self::TemporaryTables => "temporary tables",
        }
    }
}

/// Judges one statement.
#[expect(clippy::wildcard_enum_match_arm, reason = "whatever is not listed is refused")]
pub(super) fn judge(node: Node<'_>, policy: &Policy) -> Result<(), Refusal> {
    match node {
        Node::InsertStmt(_) | Node::UpdateStmt(_) | Node::DeleteStmt(_) | Node::MergeStmt(_) => {
            Ok(())
        }
        Node::SelectStmt(select) => match into(select) {
            Some(table) => new_table("SELECT INTO", Some(table), policy),
            None => Ok(()),
        },
        Node::CopyStmt(copy) => judge_copy(copy, policy),
        Node::TransactionStmt(transaction) => judge_transaction(transaction, policy),
        Node::VariableSetStmt(set) => judge_set(set, policy),
        Node::VariableShowStmt(_)
        | Node::ConstraintsSetStmt(_)
        | Node::DiscardStmt(_)
        | Node::FetchStmt(_)
        | Node::ClosePortalStmt(_)
        | Node::ExecuteStmt(_)
        | Node::DeallocateStmt(_)
        | Node::CallStmt(_)
        // Drivers' pools send it whenever they give a connection back.
        | Node::UnlistenStmt(_) => Ok(()),
        Node::DeclareCursorStmt(declare) => judge(declare.query(), policy),
        Node::PrepareStmt(prepare) => judge(prepare.query(), policy),
        Node::ExplainStmt(explain) => judge_explain(explain, policy),
        Node::CreateStmt(create) => new_table("CREATE TABLE", create.relation(), policy),
        Node::CreateTableAsStmt(create) => judge_create_as(create, policy),
        Node::DropStmt(drop) => judge_drop(drop, policy),
        Node::DoStmt(_) => needs("DO", Group::Do, policy),
        Node::ListenStmt(_) => needs("LISTEN", Group::Listen, policy),
        Node::NotifyStmt(_) => needs("NOTIFY", Group::Listen, policy),
        Node::LockStmt(_) => needs("LOCK", Group::Lock, policy),
        Node::VacuumStmt(vacuum) if vacuum.is_vacuumcmd => {
            needs("VACUUM", Group::Maintenance, policy)
        }
        Node::VacuumStmt(_) => needs("ANALYZE", Group::Maintenance, policy),
        Node::ClusterStmt(_) => needs("CLUSTER", Group::Maintenance, policy),
        Node::ReindexStmt(_) => needs("REINDEX", Group::Maintenance, policy),
        Node::RefreshMatViewStmt(_) => {
            needs("REFRESH MATERIALIZED VIEW", Group::Maintenance, policy)
        }
        other => match of_schema(other) {
            Some(name) => needs(name, Group::Ddl, policy),
            None => never(of_server(other)),
        },
    }
}

/// The table that a `SELECT` makes. It stands at the first of several united ones.
fn into(select: &SelectStmt) -> Option<&RangeVar> {
    let mut first = select;
    while let Some(left) = first.larg() {
        first = left;
    }
    first.into_clause().and_then(|into| into.rel())
}

fn new_table(name: &'static str, table: Option<&RangeVar>, policy: &Policy) -> Result<(), Refusal> {
    const TEMPORARY: u8 = b't';
    let is_temporary = table.is_some_and(|table| {
        u8::try_from(table.relpersistence) == Ok(TEMPORARY) || table.schemaname() == Some("pg_temp")
    });
    if is_temporary {
        needs(name, Group::TemporaryTables, policy)
    } else {
        needs(name, Group::Ddl, policy)
    }
}

fn judge_create_as(create: &CreateTableAsStmt, policy: &Policy) -> Result<(), Refusal> {
    if create.objtype == ObjectType::OBJECT_MATVIEW {
        return needs("CREATE MATERIALIZED VIEW", Group::Ddl, policy);
    }
    new_table("CREATE TABLE AS", create.into().and_then(|into| into.rel()), policy)?;
    judge(create.query(), policy)
}

/// Whether a table is a temporary one, its name does not say.
fn judge_drop(drop: &DropStmt, policy: &Policy) -> Result<(), Refusal> {
    let is_table = drop.remove_type == ObjectType::OBJECT_TABLE;
    if is_table && policy.statements.contains(&Group::TemporaryTables) {
        return Ok(());
    }
    needs("DROP", Group::Ddl, policy)
}

fn judge_copy(copy: &CopyStmt, policy: &Policy) -> Result<(), Refusal> {
    if copy.is_program {
        never("COPY with a program of the server")
    } else if copy.filename().is_some() {
        never("COPY with a file of the server")
    } else if matches!(copy.query(), Node::None) {
        Ok(())
    } else {
        judge(copy.query(), policy)
    }
}

fn judge_transaction(transaction: &TransactionStmt, policy: &Policy) -> Result<(), Refusal> {
    match transaction.kind {
        TransactionStmtKind::TRANS_STMT_BEGIN
        | TransactionStmtKind::TRANS_STMT_START
        | TransactionStmtKind::TRANS_STMT_COMMIT
        | TransactionStmtKind::TRANS_STMT_ROLLBACK
        | TransactionStmtKind::TRANS_STMT_SAVEPOINT
        | TransactionStmtKind::TRANS_STMT_RELEASE
        | TransactionStmtKind::TRANS_STMT_ROLLBACK_TO => Ok(()),
        TransactionStmtKind::TRANS_STMT_PREPARE => {
            needs("PREPARE TRANSACTION", Group::PrepareTransaction, policy)
        }
        TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => {
            needs("COMMIT PREPARED", Group::PrepareTransaction, policy)
        }
        _ => needs("ROLLBACK PREPARED", Group::PrepareTransaction, policy),
    }
}

fn judge_set(set: &VariableSetStmt, policy: &Policy) -> Result<(), Refusal> {
    let name = set.name().unwrap_or_default();
    match set.kind {
        // Back to what the session was started with, the role, too.
        VariableSetKind::VAR_RESET
        | VariableSetKind::VAR_RESET_ALL
        | VariableSetKind::VAR_SET_DEFAULT => Ok(()),
        VariableSetKind::VAR_SET_MULTI => match name {
            "TRANSACTION" | "SESSION CHARACTERISTICS" => Ok(()),
            _ => never("SET TRANSACTION SNAPSHOT"),
        },
        _ if name == "role" && names_nobody(set) => Ok(()),
        _ if name == "role" => never("SET ROLE"),
        _ if name == "session_authorization" => never("SET SESSION AUTHORIZATION"),
        _ if policy.whose == Whose::Superadmins => Ok(()),
        _ if may_change(name, &policy.settings) => Ok(()),
        _ => Err(Refusal::Setting(name.chars().take(LONGEST_NAME).collect())),
    }
}

/// Of a setting's name so many characters are told.
const LONGEST_NAME: usize = 200;

/// `SET ROLE NONE` is another `RESET ROLE`.
fn names_nobody(set: &VariableSetStmt) -> bool {
    match set.args().first() {
        Some(Node::A_Const(value)) => matches!(value.val(), Some(ConstValue::String("none"))),
        _ => false,
    }
}

/// A plan is chosen by estimates from all tenants' rows: without its costs, too, it tells of them.
fn judge_explain(explain: &ExplainStmt, policy: &Policy) -> Result<(), Refusal> {
    if !policy.statements.contains(&Group::Explain) {
        return Err(Refusal::Explain);
    }
    judge(explain.query(), policy)
}

fn needs(name: &'static str, group: Group, policy: &Policy) -> Result<(), Refusal> {
    if policy.statements.contains(&group) {
        Ok(())
    } else {
        Err(Refusal::Statement { name, group: Some(group) })
    }
}

const fn never(name: &'static str) -> Result<(), Refusal> {
    Err(Refusal::Statement { name, group: None })
}

/// What changes the schema and can be given back.
#[expect(clippy::wildcard_enum_match_arm, reason = "the rest is not of the schema")]
const fn of_schema(node: Node<'_>) -> Option<&'static str> {
    Some(match node {
        Node::CreateSchemaStmt(_) => "CREATE SCHEMA",
        Node::AlterTableStmt(_) => "ALTER TABLE",
        Node::CreateSeqStmt(_) => "CREATE SEQUENCE",
        Node::AlterSeqStmt(_) => "ALTER SEQUENCE",
        Node::IndexStmt(_) => "CREATE INDEX",
        Node::ViewStmt(_) => "CREATE VIEW",
        Node::CreateDomainStmt(_) => "CREATE DOMAIN",
        Node::AlterDomainStmt(_) => "ALTER DOMAIN",
        Node::CompositeTypeStmt(_) | Node::CreateEnumStmt(_) | Node::CreateRangeStmt(_) => {
            "CREATE TYPE"
        }
        Node::AlterEnumStmt(_) | Node::AlterTypeStmt(_) => "ALTER TYPE",
        Node::CreateFunctionStmt(_) => "CREATE FUNCTION",
        Node::AlterFunctionStmt(_) => "ALTER FUNCTION",
        Node::CreateTrigStmt(_) => "CREATE TRIGGER",
        Node::CreateStatsStmt(_) => "CREATE STATISTICS",
        Node::AlterStatsStmt(_) => "ALTER STATISTICS",
        Node::CommentStmt(_) => "COMMENT",
        Node::RenameStmt(_) | Node::AlterObjectSchemaStmt(_) => "ALTER",
        Node::DefineStmt(_) => "CREATE",
        _ => return None,
    })
}

/// What no tenant may do here, whatever the operator says.
#[expect(clippy::wildcard_enum_match_arm, reason = "this is about names only")]
const fn of_server(node: Node<'_>) -> &'static str {
    match node {
        Node::AlterRoleStmt(_) | Node::AlterRoleSetStmt(_) => "ALTER ROLE",
        Node::CreateRoleStmt(_) => "CREATE ROLE",
        Node::DropRoleStmt(_) => "DROP ROLE",
        Node::GrantStmt(_) | Node::GrantRoleStmt(_) => "GRANT or REVOKE",
        Node::AlterDefaultPrivilegesStmt(_) => "ALTER DEFAULT PRIVILEGES",
        Node::AlterOwnerStmt(_) => "ALTER … OWNER TO",
        Node::ReassignOwnedStmt(_) => "REASSIGN OWNED",
        Node::DropOwnedStmt(_) => "DROP OWNED",
        Node::CreatePolicyStmt(_) => "CREATE POLICY",
        Node::AlterPolicyStmt(_) => "ALTER POLICY",
        Node::RuleStmt(_) => "CREATE RULE",
        Node::TruncateStmt(_) => "TRUNCATE",
        Node::AlterSystemStmt(_) => "ALTER SYSTEM",
        Node::CheckPointStmt(_) => "CHECKPOINT",
        Node::LoadStmt(_) => "LOAD",
        Node::SecLabelStmt(_) => "SECURITY LABEL",
        Node::ImportForeignSchemaStmt(_) => "IMPORT FOREIGN SCHEMA",
        Node::CreateExtensionStmt(_) => "CREATE EXTENSION",
        Node::AlterExtensionStmt(_) | Node::AlterExtensionContentsStmt(_) => "ALTER EXTENSION",
        Node::CreatedbStmt(_) => "CREATE DATABASE",
        Node::DropdbStmt(_) => "DROP DATABASE",
        Node::AlterDatabaseStmt(_) | Node::AlterDatabaseSetStmt(_) => "ALTER DATABASE",
        _ => "this kind of statement",
    }
}
