//! sqlx: a token for each transaction.
//!
//! ```ignore
//! let pool = PgPool::connect("postgres://app:<service token>@cloison:6432/shop").await?;
//!
//! let mut transaction = begin_as(&pool, request_token).await?;
//! let rows = sqlx::query("select * from projects").fetch_all(&mut *transaction).await?;
//! transaction.commit().await?;
//! ```

use sqlx::{PgPool, Postgres, Transaction};

/// To the end of this transaction: the next one to have the connection starts with nobody.
pub(crate) async fn begin_as(
    pool: &PgPool,
    token: &str,
) -> sqlx::Result<Transaction<'static, Postgres>> {
    let mut transaction = pool.begin().await?;
    let identify = "select set_config('cloison.jwt', $1, true)";
    sqlx::query(identify).bind(token).execute(&mut *transaction).await?;
    Ok(transaction)
}
