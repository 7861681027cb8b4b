//! Every pool: those that the configuration names, and the owner's in other databases.

use std::sync::Arc;

use dashmap::DashMap;

use super::queue::Places;
use super::{Changes, Door, Error, OpenError, Pool, PoolKey};
use crate::backend::Target;
use crate::config::{self, PoolMode};
use crate::observe::Observer;
use crate::types::Access;

/// Every pool.
pub struct Pools {
    pools: DashMap<PoolKey, Arc<Pool>>,
    changes: Arc<Changes>,
    /// The tenants' own.
    door: Arc<Door>,
    /// Counts the owner's server connections to all other databases; `None` without an owner's pool.
    elsewhere: Option<Places>,
}

impl Pools {
    /// Makes the pools that the configuration names; connections are opened when needed.
    ///
    /// # Errors
    ///
    /// Fails when a certificate cannot be used, or the system has no randomness.
    pub fn new(config: &config::Config, observer: &Observer) -> Result<Self, OpenError> {
        let (pools, changes) = (DashMap::new(), Arc::new(Changes::default()));
        let door = Arc::new(Door::default());
        let places = Places::of_pools(&config.pools, observer);
        for ((&access, pool), queue) in config.pools.iter().zip(places) {
            let timeout = config.limits.server_connect_timeout;
            let target = Target::new(&config.server, &pool.login, timeout, config.keepalive)?;
            let key = PoolKey { access, database: config.server.database.clone() };
            let made = Pool {
                role_settings: config.role_settings.clone(),
                mode: pool.mode,
                door: match access {
                    Access::Tenant => Arc::clone(&door),
                    // Somebody has to come in who can mend what shuts the door.
                    Access::Superadmin | Access::Owner => Arc::default(),
                },
                ..Pool::new(
                    key.clone(),
                    Arc::new(target),
                    (config.limits, pool.size),
                    Arc::clone(&changes),
                    queue,
                    observer,
                )?
            };
            pools.insert(key, Arc::new(made));
        }
        let owner = config.pools.get(&Access::Owner);
        let elsewhere = owner.map(|pool| Places::of_one(Access::Owner, pool.size, observer));
        Ok(Self { pools, changes, door, elsewhere })
    }

    /// The pool of `key`.
    ///
    /// # Errors
    ///
    /// There may be none.
    pub fn find(&self, key: &PoolKey) -> Result<Arc<Pool>, Error> {
        let pool = self.pools.get(key).map(|entry| Arc::clone(entry.value()));
        pool.ok_or_else(|| Error::NoPool(key.clone()))
    }

    /// A pool for one session of the owner in `database`, which is not the one that is served.
    ///
    /// Its server connection is closed when the session ends, so that nothing of the proxy's keeps
    /// anybody from dropping that database. All of these sessions together have as many server
    /// connections as the owner's own pool.
    ///
    /// # Errors
    ///
    /// The owner may have no pool.
    pub fn of_owner_in(&self, served: &PoolKey, database: &str) -> Result<Arc<Pool>, Error> {
        let key = PoolKey { access: Access::Owner, database: database.to_owned() };
        let owner = self.find(&PoolKey { access: Access::Owner, ..served.clone() })?;
        let Some(queue) = self.elsewhere.clone() else { return Err(Error::NoPool(key)) };
        let target = Arc::new(owner.target.in_database(database));
        let (limits, changes) = ((owner.limits, owner.size), Arc::clone(&self.changes));
        let pool = Pool::new(key, target, limits, changes, queue, &owner.observer);
        let pool = pool.map_err(|_| Error::NoPool(owner.key.clone()))?;
        Ok(Arc::new(Pool { mode: PoolMode::Session, keeps_idle: false, ..pool }))
    }

    /// Lets tenants in, or not.
    pub const fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Tells when tables may have changed.
    pub fn changes(&self) -> &Arc<Changes> {
        &self.changes
    }

    /// Every pool that the configuration names.
    pub fn all(&self) -> Vec<Arc<Pool>> {
        self.pools.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// Closes idle connections that are past their time, in every pool.
    ///
    /// Safe to call at any time: nobody holds an idle connection.
    pub async fn reap(&self) {
        for pool in self.all() {
            pool.reap().await;
        }
    }
}
