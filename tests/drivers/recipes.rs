//! One pool of connections for all tenants: the recipes of docs/recipes, each with its library, and
//! the fourth seed's application.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::script::{folder, installed, node_with, output, python_with};
use crate::stand::{A, B, Mode, Server, stand};

#[path = "../../docs/recipes/with_sqlx.rs"]
mod with_sqlx;

/// A proxy of a test's own, and what its scripts are told.
struct Recipes {
    mode: Mode,
    environment: Vec<(&'static str, String)>,
    _proxy: Server,
}

impl Recipes {
    fn start(mode: Mode, name: &str) -> Self {
        let issuers = json!({
            "dev": {
                "issuer": cloison::dev::ISSUER,
                "audience": cloison::dev::AUDIENCE,
                "algorithms": ["ES256"],
                "jwks_file": stand().jwks_file(),
                "tenant_lookup": ["id"],
                "tenants_claim": "tenants",
            },
        });
        let (_proxy, listen) = stand().proxy_in(mode, name, &issuers, &json!({}));
        let url = |token: String| format!("postgres://cloison_app:{token}@{listen}/app");
        let environment = vec![
            ("SERVICE_URL", url(token(&json!({ "tenants": [A, B] }), 3600))),
            ("NOBODY_URL", url(token(&json!({ "tenants": [] }), 3600))),
            ("TOKEN_A", token(&json!({ "tenant_id": A }), 3600)),
            ("TOKEN_B", token(&json!({ "tenant_id": B }), 3600)),
            ("TOKEN_EXPIRED", token(&json!({ "tenant_id": A }), -3600)),
        ];
        Self { mode, environment, _proxy }
    }

    fn told(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.environment.iter().cloned()
    }

    fn value(&self, name: &str) -> &str {
        &self.environment.iter().find(|(known, _)| *known == name).unwrap().1
    }
}

/// A token with these claims that ends so many seconds from now.
fn token(claims: &Value, ends: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let mut claims = claims.clone();
    claims["iss"] = cloison::dev::ISSUER.into();
    claims["aud"] = cloison::dev::AUDIENCE.into();
    claims["exp"] = (now + ends).into();
    stand().mint(&claims)
}

/// The same tests in each pool mode.
macro_rules! in_both_modes {
    ($($name:ident,)*) => {
        mod session_pooling {
            $(
                #[test]
                fn $name() {
                    let name = concat!("session_", stringify!($name));
                    super::$name(&super::Recipes::start(super::Mode::Session, name));
                }
            )*
        }

        mod transaction_pooling {
            $(
                #[test]
                fn $name() {
                    let name = concat!("transaction_", stringify!($name));
                    super::$name(&super::Recipes::start(super::Mode::Transaction, name));
                }
            )*
        }
    };
}

in_both_modes!(fourth_seed, python_recipes, node_recipes, hikari_recipe, sqlx_recipe,);

fn fourth_seed(recipes: &Recipes) {
    python_with(recipes.mode, "python/with_seed.py", recipes.told());
}

fn python_recipes(recipes: &Recipes) {
    python_with(recipes.mode, "python/with_recipes.py", recipes.told());
}

fn node_recipes(recipes: &Recipes) {
    node_with(recipes.mode, "node/with_recipes.js", recipes.told());
}

fn hikari_recipe(recipes: &Recipes) {
    let jars = ["postgresql", "HikariCP", "slf4j-api", "slf4j-nop"]
        .map(|jar| format!("/usr/share/java/{jar}.jar"));
    for jar in &jars {
        installed(jar.as_ref());
    }
    let classes = std::env::temp_dir().join(format!(
        "cloison-hikari-{:?}-{}",
        recipes.mode,
        std::process::id()
    ));
    let path = format!("{}:{}", jars.join(":"), classes.display());
    let mut compile = Command::new("javac");
    compile.args(["-cp", &path, "-d"]).arg(&classes);
    compile.arg(folder().join("../../docs/recipes/WithHikari.java"));
    compile.arg(folder().join("java/WithRecipes.java"));
    output(&mut compile);
    let mut run = Command::new("java");
    run.args(["-XX:TieredStopAtLevel=1", "-cp", &path, "WithRecipes"]).stdin(Stdio::null());
    let told = output(run.envs(recipes.told()));
    std::fs::remove_dir_all(&classes).unwrap();
    assert!(told.lines().next_back().is_some_and(|last| last.starts_with("passed ")), "{told}");
}

fn sqlx_recipe(recipes: &Recipes) {
    const ONLY: &str = "select distinct tenant_id::text from projects";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::postgres::PgPoolOptions::new().max_connections(3);
        let pool = options.connect(recipes.value("NOBODY_URL")).await.unwrap();
        let [a, b] = ["TOKEN_A", "TOKEN_B"].map(|name| Arc::<str>::from(recipes.value(name)));
        let mut visits = JoinSet::new();
        for (token, tenant) in std::iter::repeat_n([(a, A), (b, B)], 60).flatten() {
            let pool = pool.clone();
            visits.spawn(async move {
                let mut transaction = with_sqlx::begin_as(&pool, &token).await.unwrap();
                let seen: Vec<String> =
                    sqlx::query_scalar(ONLY).fetch_all(&mut *transaction).await.unwrap();
                transaction.commit().await.unwrap();
                assert_eq!(seen, [tenant]);
            });
        }
        visits.join_all().await;
        let code =
            |error: sqlx::Error| error.as_database_error().unwrap().code().unwrap().into_owned();
        let nobody = sqlx::query(ONLY).fetch_all(&pool).await.unwrap_err();
        assert_eq!(code(nobody), "42501");
        let refused = with_sqlx::begin_as(&pool, recipes.value("TOKEN_EXPIRED")).await.unwrap_err();
        assert_eq!(code(refused), "28P01");
        pool.close().await;
    });
}
