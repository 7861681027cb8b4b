//! How the suite gets to the proxy: by the URLs that are given, or to the running `cloison dev`.

use serde_json::json;

use super::{Args, Error, own};
use crate::cli::dev::{self as dev_verb, report::percent_encoded};
use crate::cli::serve::Running;
use crate::config;
use crate::dev;
use crate::dev::key::SigningKey;
use crate::dev::logins;
use crate::dev::state::State;
use crate::kit::verify::{self, Road, Roads};

pub(super) async fn of(args: &Args) -> Result<(Roads, Option<Running>), Error> {
    if let (Some(file), Some(url)) = (&args.config, &args.database_url) {
        let config = config::load(Some(file), crate::cli::environment());
        let config = config.map_err(|errors| Error::Own(errors.to_string()))?;
        let operator = Road::straight("the operator", url)?;
        let own = own::start(config, args.pool_mode, &args.without, operator);
        return own.await.map(|(roads, running)| (roads, Some(running)));
    }
    to_given(args).await.map(|roads| (roads, None))
}

async fn to_given(args: &Args) -> Result<Roads, Error> {
    let (Some(tenant), Some(other), Some(superadmin)) =
        (&args.tenant_url, &args.other_url, &args.superadmin_url)
    else {
        return to_dev(args).await;
    };
    let operator = args.database_url.as_ref().map(|url| Road::straight("the operator", url));
    Ok(Roads {
        tenants: [Road::new("tenant A", tenant)?, Road::new("tenant B", other)?],
        superadmin: Road::new("the super-admin", superadmin)?,
        operator: operator.transpose()?,
    })
}

/// Mints its own tokens, for the two tenants that have rows in most tables.
async fn to_dev(args: &Args) -> Result<Roads, Error> {
    let folder = args.data_dir.clone().unwrap_or_else(dev::default_data_dir);
    let path = folder.join(dev::STATE);
    let state = State::load(&path).map_err(|source| Error::NoDev { path, source })?;
    let key = SigningKey::load(&folder.join(dev::SIGNING_KEY))?;
    let operator = args.database_url.as_ref().unwrap_or(&state.postgres_url);
    let operator = Road::straight("the operator", operator)?;
    let candidates = verify::candidates(&operator).await?;
    let [a, b, ..] = &candidates[..] else { return Err(Error::FewTenants(candidates.len())) };

    let url = |user: &str, audience: &str, tenant: Option<String>| {
        let claims = dev_verb::claims("cloison verify", audience);
        let mut claims = claims.map_err(|error| Error::Claims(Box::new(error)))?;
        if let Some(tenant) = tenant {
            claims.insert("tenant_id".to_owned(), json!(tenant));
        }
        claims.insert("reason".to_owned(), json!("cloison verify"));
        let (token, database) = (key.mint(&claims)?, percent_encoded(&state.database));
        Ok::<_, Error>(format!("postgres://{user}:{token}@{}/{database}", state.listen))
    };
    let a = url(logins::TENANT, dev::AUDIENCE, Some(a.id.to_string()))?;
    let b = url(logins::TENANT, dev::AUDIENCE, Some(b.id.to_string()))?;
    let superadmin = url("cloison_superadmin", dev::SUPERADMIN_AUDIENCE, None)?;
    Ok(Roads {
        tenants: [Road::new("tenant A", &a)?, Road::new("tenant B", &b)?],
        superadmin: Road::new("the super-admin", &superadmin)?,
        operator: Some(operator),
    })
}
