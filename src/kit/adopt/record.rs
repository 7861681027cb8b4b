//! What is kept of plans: `cloison.adoptions`.

use tokio_postgres::{Client, Row};

use super::mapping::Mapping;
use super::plan::Plan;
use super::{Error, NEEDS_KIT};

/// How far an adoption is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Not all steps are done.
    Applying,
    /// All are.
    Applied,
    /// It is being taken back.
    Undoing,
    /// It was taken back.
    Undone,
}

/// A plan that is kept in the database, and can be run. Only this module makes it.
#[derive(Clone, Debug)]
pub struct Adoption {
    id: i32,
    state: State,
    mapping: Mapping,
    plan: Plan,
}

impl State {
    /// Its name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Applying => "applying",
            Self::Applied => "applied",
            Self::Undoing => "undoing",
            Self::Undone => "undone",
        }
    }

    fn of(name: &str) -> Option<Self> {
        [Self::Applying, Self::Applied, Self::Undoing, Self::Undone]
            .into_iter()
            .find(|state| state.as_str() == name)
    }
}

impl Adoption {
    /// Its number.
    pub const fn id(&self) -> i32 {
        self.id
    }

    /// How far it was when it was read.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What was wanted.
    pub const fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// What is to be done.
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Writes down how far it is.
    pub(super) async fn set(&mut self, client: &Client, state: State) -> Result<(), Error> {
        let sql =
            "update cloison.adoptions set state = $2, changed_at = pg_catalog.now() where id = $1";
        let done = client.execute(sql, &[&self.id, &state.as_str()]).await;
        done.map_err(|e| Error::statement("writing down how far the adoption is", e))?;
        self.state = state;
        Ok(())
    }

    fn read(row: &Row) -> Result<Self, Error> {
        let doing = |e| Error::statement("reading a plan", e);
        let id = row.try_get(0).map_err(doing)?;
        let shape = |source| Error::Kept { id, source };
        let state: String = row.try_get(1).map_err(doing)?;
        Ok(Self {
            id,
            // The table allows no other.
            state: State::of(&state).unwrap_or(State::Applying),
            mapping: serde_json::from_value(row.try_get(2).map_err(doing)?).map_err(shape)?,
            plan: serde_json::from_value(row.try_get(3).map_err(doing)?).map_err(shape)?,
        })
    }
}

/// Refuses a database without a kit that has a place for plans, and whoever may not keep them.
///
/// # Errors
///
/// There is none, or it is an old one, or somebody else's.
pub async fn check_kit(client: &Client) -> Result<(), Error> {
    let doing = |e| Error::statement("reading the kit's version", e);
    let sql = "select pg_catalog.pg_has_role(current_user, nspowner, 'usage'), current_user::text, \
                   pg_catalog.to_regprocedure('cloison.kit_version()') is not null \
               from pg_catalog.pg_namespace where nspname = 'cloison'";
    let Some(row) = client.query_opt(sql, &[]).await.map_err(doing)? else {
        return Err(Error::Kit(None));
    };
    if !row.get::<_, bool>(0) {
        return Err(Error::Role(row.get(1)));
    }
    if !row.get::<_, bool>(2) {
        return Err(Error::Kit(None));
    }
    let row = client.query_one("select cloison.kit_version()", &[]).await.map_err(doing)?;
    match row.get(0) {
        NEEDS_KIT.. => Ok(()),
        older => Err(Error::Kit(Some(older))),
    }
}

/// Keeps a plan, which can be run from then on.
///
/// # Errors
///
/// Another one is under way, or what Postgres says.
pub async fn keep(client: &Client, mapping: &Mapping, plan: &Plan) -> Result<Adoption, Error> {
    let shape = |source| Error::Shape { doing: "writing a plan", source };
    let sql = "insert into cloison.adoptions (mapping, plan) values ($1, $2) \
               returning id, state, mapping, plan";
    let mapping = serde_json::to_value(mapping).map_err(shape)?;
    let plan = serde_json::to_value(plan).map_err(shape)?;
    let row = client.query_one(sql, &[&mapping, &plan]).await;
    Adoption::read(&row.map_err(|e| Error::statement("keeping the plan", e))?)
}

/// The adoption that was not finished, if there is one.
///
/// # Errors
///
/// What Postgres says.
pub async fn unfinished(client: &Client) -> Result<Option<Adoption>, Error> {
    one(client, "where state in ('applying', 'undoing')").await
}

/// The last one that was not taken back.
///
/// # Errors
///
/// What Postgres says.
pub async fn last(client: &Client) -> Result<Option<Adoption>, Error> {
    one(client, "where state <> 'undone' order by id desc limit 1").await
}

/// All that stand, oldest first.
///
/// # Errors
///
/// What Postgres says.
pub async fn standing(client: &Client) -> Result<Vec<Adoption>, Error> {
    let sql = "select id, state, mapping, plan from cloison.adoptions \
               where state <> 'undone' order by id";
    let rows = client.query(sql, &[]).await;
    rows.map_err(|e| Error::statement("reading the plans", e))?.iter().map(Adoption::read).collect()
}

async fn one(client: &Client, which: &str) -> Result<Option<Adoption>, Error> {
    let sql = format!("select id, state, mapping, plan from cloison.adoptions {which}");
    let row = client.query_opt(&sql, &[]).await;
    row.map_err(|e| Error::statement("reading the plans", e))?
        .as_ref()
        .map(Adoption::read)
        .transpose()
}
