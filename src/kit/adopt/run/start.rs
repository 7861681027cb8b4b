//! What to run: the adoption that is under way, or a new one, whose rules Postgres has read.

use tokio_postgres::Client;

use crate::kit::adopt::mapping::Mapping;
use crate::kit::adopt::plan::{self, Act, Plan, Refusal, Step};
use crate::kit::adopt::record::{self, Adoption, State};
use crate::kit::adopt::{Error, catalogue};
use crate::kit::told;

/// The adoption to run: the one that was not finished, or a new one; none if there is nothing to do.
///
/// # Errors
///
/// What stands in the way of it, or another one that is under way.
pub async fn start(client: &Client, mapping: &Mapping) -> Result<Option<Adoption>, Error> {
    if let Some(adoption) = record::unfinished(client).await? {
        let id = adoption.id();
        if adoption.state() == State::Undoing {
            let text = format!("adoption {id} is being taken back: finish that with --down");
            return Err(Error::Busy(text));
        }
        if *mapping != Mapping::default() && mapping != adoption.mapping() {
            let text = format!(
                "adoption {id} is under way with another mapping: finish it (`cloison adopt --apply` \
                 alone does), or take it back with --down"
            );
            return Err(Error::Busy(text));
        }
        return Ok(Some(adoption));
    }
    if *mapping == Mapping::default() {
        return Err(Error::Busy("no adoption is under way: say which tables".to_owned()));
    }
    match propose(client, mapping).await? {
        Some(plan) => record::keep(client, mapping, &plan).await.map(Some),
        None => Ok(None),
    }
}

/// A plan for the database as it is; none if everything is protected already.
///
/// # Errors
///
/// What stands in its way.
pub async fn propose(client: &Client, mapping: &Mapping) -> Result<Option<Plan>, Error> {
    record::check_kit(client).await?;
    mapping.check().map_err(|error| {
        Error::Refused(vec![plan::Refusal {
            about: "the mapping".to_owned(),
            why: error.to_string(),
            help: "see `cloison adopt --help`".to_owned(),
        }])
    })?;
    let catalogue = catalogue::read(client, mapping).await?;
    if plan::is_done(mapping, &catalogue) {
        return Ok(None);
    }
    let plan = plan::make(mapping, &catalogue).map_err(Error::Refused)?;
    let refusals = try_rules(client, &plan).await?;
    if refusals.is_empty() { Ok(Some(plan)) } else { Err(Error::Refused(refusals)) }
}

/// Has Postgres plan the questions that are asked before anything is changed: a rule that cannot be
/// read, or names what is not there, is found here.
async fn try_rules(client: &Client, plan: &Plan) -> Result<Vec<Refusal>, Error> {
    let comes_first = |step: &&Step| matches!(step.act, Act::Check { .. } | Act::Repeatable(_));
    let mut refusals = Vec::new();
    for step in plan.up.iter().take_while(comes_first) {
        let Act::Check { sql, search_path, .. } = &step.act else { continue };
        let text = format!("begin read only; set local search_path = {search_path}; explain {sql}");
        let read = client.batch_execute(&text).await;
        let ended = client.batch_execute("rollback").await;
        if let Err(error) = read {
            refusals.push(Refusal {
                about: step.table.clone(),
                why: format!("its rule cannot be run{}", told(&error)),
                help: "mend the table's rule in the mapping".to_owned(),
            });
        }
        ended.map_err(|e| Error::statement("trying the rules", e))?;
    }
    Ok(refusals)
}
