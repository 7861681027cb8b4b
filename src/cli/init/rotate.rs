//! `cloison init --rotate`: new passwords for the roles that a configuration names.

use std::fs;

use tokio_postgres::Client;

use super::place::{File, Place};
use super::text::{self, Account};
use super::{Error, NOTHING, ROLES, Target, stopped};
use crate::cli::environment;
use crate::config;
use crate::kit::logins::{Found, Login, random_password};
use crate::kit::rights::Rights;

/// Sets the passwords and writes them into the environment file; everything else stays.
pub(super) async fn run(client: &Client, target: &Target, place: &Place) -> Result<String, Error> {
    let rights = Rights::read(client).await.map_err(stopped("ask for rights", NOTHING))?;
    let database = rights.database;
    let file = place.path(File::Configuration);
    let config = config::load(Some(&file), environment()).map_err(Error::Config)?;
    if config.server.database != database {
        let told = format!(
            "{} is about the database {}, and --database-url about {database}",
            place.shown(File::Configuration),
            config.server.database
        );
        return Err(Error::Options(told));
    }
    let mut accounts = text::accounts_of(&config);
    for account in &mut accounts {
        let login = login(account);
        match login.find(client, &database).await.map_err(stopped("look for roles", NOTHING))? {
            Found::Ours => account.password = Some(random_password()),
            Found::Foreign | Found::Nothing => return Err(Error::Foreign(login.role)),
        }
    }
    let before = fs::read_to_string(place.path(File::Environment)).ok();
    let content = text::environment(before.as_deref(), &accounts);
    let staged = place.stage(File::Environment, &content);
    let staged = staged.map_err(stopped("write the passwords", NOTHING))?;
    let set = async {
        client.batch_execute("begin").await?;
        for account in &accounts {
            if let Some(password) = &account.password {
                login(account).make(client, &database, Found::Ours, password).await?;
            }
        }
        client.batch_execute("commit").await
    };
    if let Err(error) = set.await {
        // Where the connection is lost there is nothing left to undo.
        let _ = client.batch_execute("rollback").await;
        return Err(stopped("set the passwords", NOTHING)(error));
    }
    staged.place().map_err(stopped("move cloison.env into its place", ROLES))?;
    let roles: Vec<&str> = accounts.iter().map(|account| account.role.as_str()).collect();
    Ok(format!(
        "New passwords for {} at {}, in {}.\n\
         A proxy that is running has the old ones, and gets no new server connections: restart it.\n",
        roles.join(", "),
        crate::kit::place::describe(&target.config),
        place.shown(File::Environment)
    ))
}

fn login(account: &Account) -> Login {
    Login { role: account.role.clone(), access: account.access }
}
