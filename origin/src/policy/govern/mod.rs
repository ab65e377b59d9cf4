//! A mount's policy at work: between a request and the engine that finds its answer.
//!
//! What a rule decides is decided before anything is asked of upstream. Ages and notices are looked for
//! only where the policy depends on them (`facts`); lists and `@latest` are answered without what is
//! blocked (`lists`). The engine's own answers are never changed: another policy judges them anew.

mod facts;
mod lists;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use modcdn_core::goproxy::{ModulePath, Patterns, Prefix, Request, Version};
use modcdn_core::refusal::{Reason, Refusal};
use parking_lot::Mutex;

use self::facts::{Heard, Records};
use super::refusal::{Instead, refusal};
use super::sight::{Sight, Where};
use super::{Block, Decision, Facts, Warning};
use crate::config;
use crate::config::policy::Policy;
use crate::fetch::{Engine, Found};
use crate::metrics::Metrics;
use crate::purges::Purger;
use crate::upstream::asked;

pub(crate) use self::facts::RecordSource;
pub(crate) use self::lists::versions;

/// See the module.
pub(crate) struct Governor {
    policy: ArcSwap<Policy>,
    prefix: Prefix,
    /// What strangers can't publish.
    private: Patterns,
    settings: config::Sight,
    /// Longest wait for facts that no answer depends on, and for all that a list depends on.
    patience: Duration,
    sight: Arc<Sight>,
    /// Versions that were looked for in the store, in case they were there before they were seen.
    looked_up: Mutex<HashSet<String>>,
    records: Records,
    heard: Heard,
    purger: Arc<Purger>,
    metrics: Metrics,
}

/// What a governor is made of.
pub(crate) struct Parts {
    pub(crate) policy: Policy,
    pub(crate) prefix: Prefix,
    pub(crate) private: Patterns,
    pub(crate) settings: config::Sight,
    pub(crate) patience: Duration,
    /// How long the author's notices are used without another look.
    pub(crate) freshness: Duration,
    pub(crate) sight: Arc<Sight>,
    /// None: no checksum database knows the modules of this mount.
    pub(crate) records: Option<Arc<dyn RecordSource>>,
    pub(crate) purger: Arc<Purger>,
    pub(crate) metrics: Metrics,
}

/// What answers a request, and what its user should hear beside it.
pub(crate) struct Governed {
    pub(crate) found: Found,
    pub(crate) warnings: Vec<Warning>,
}

impl From<Found> for Governed {
    fn from(found: Found) -> Self {
        let warnings = Vec::new();
        Self { found, warnings }
    }
}

impl Governor {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            policy: ArcSwap::from_pointee(parts.policy),
            prefix: parts.prefix,
            private: parts.private,
            settings: parts.settings,
            patience: parts.patience,
            sight: parts.sight,
            looked_up: Mutex::default(),
            records: Records::new(parts.records),
            heard: Heard::new(parts.freshness),
            purger: parts.purger,
            metrics: parts.metrics,
        }
    }

    /// Where the mount begins.
    pub(crate) fn prefix(&self) -> &Prefix {
        &self.prefix
    }

    /// The policy at present.
    pub(crate) fn policy(&self) -> Arc<Policy> {
        self.policy.load_full()
    }

    /// Goes by another policy from now on.
    pub(crate) fn adopt(&self, policy: Policy) {
        self.policy.store(Arc::new(policy));
    }

    /// Looks how long the checksum database's log is, if ages matter: records that nobody asks for
    /// grow older only by such looks.
    pub(crate) async fn look_at_log(&self) {
        if self.policy.load().wants_ages() {
            self.records.look().await;
        }
    }

    /// Finds what answers a request, as the policy has it.
    ///
    /// # Errors
    /// The refusal to answer with.
    pub(crate) async fn find(
        &self,
        engine: &Arc<Engine>,
        request: &Request,
        only_stored: bool,
        now: SystemTime,
    ) -> Result<Governed, Refusal> {
        let policy = self.policy.load_full();
        if policy.is_open() {
            return engine.find(request, only_stored).await.map(Governed::from);
        }
        let case = Case {
            governor: self,
            engine,
            policy: &policy,
            only_stored,
            now,
        };
        match request {
            Request::SumDb(_) => engine.find(request, only_stored).await.map(Governed::from),
            Request::Mod(module, version) => case.go_mod(request, module, version).await,
            Request::Info(module, version) | Request::Zip(module, version) => {
                case.version(request, module, version).await
            }
            Request::List(module) => case.list(request, module).await,
            Request::Latest(module) => case.latest(request, module).await,
            Request::Query(module, _) => case.query(request, module).await,
        }
    }

    /// Notes that an upstream gave this answer: versions in it are seen.
    pub(crate) fn saw(&self, request: &Request, body: &[u8], now: SystemTime) {
        match request {
            Request::List(module) => {
                let versions = lists::versions(body);
                let sight = &self.sight;
                sight.saw(&self.prefix, module, &versions, Where::List, now);
            }
            Request::Latest(module) | Request::Query(module, _) | Request::Info(module, _) => {
                if let Some(version) = lists::version_of(body) {
                    let sight = &self.sight;
                    sight.saw(&self.prefix, module, [&version], Where::Info, now);
                }
            }
            Request::Mod(..) | Request::Zip(..) => self.saw_content(request, now),
            Request::SumDb(_) => {}
        }
    }

    /// Notes that an upstream gives the content of a version.
    pub(crate) fn saw_content(&self, request: &Request, now: SystemTime) {
        if let Request::Mod(module, version) | Request::Zip(module, version) = request {
            let sight = &self.sight;
            sight.saw(&self.prefix, module, [version], Where::Content, now);
        }
    }
}

/// One request, judged by the policy that was in force when it came.
#[derive(Clone, Copy)]
struct Case<'a> {
    governor: &'a Governor,
    engine: &'a Arc<Engine>,
    policy: &'a Policy,
    only_stored: bool,
    now: SystemTime,
}

impl Case<'_> {
    async fn find(&self, request: &Request) -> Result<Found, Refusal> {
        self.engine.find(request, self.only_stored).await
    }

    async fn go_mod(
        &self,
        request: &Request,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Governed, Refusal> {
        match self.policy.blocks_go_mod(module, version, self.now) {
            Some(block) => Err(self.refusal(&block, asked(request), module, version).await),
            None => self.find(request).await.map(Governed::from),
        }
    }

    async fn version(
        &self,
        request: &Request,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Governed, Refusal> {
        match self.decide(&asked(request), module, version).await? {
            Decision::Allowed { warnings, .. } => {
                let found = self.find(request).await?;
                self.count_warnings(&warnings);
                Ok(Governed { found, warnings })
            }
            Decision::Blocked(block) => {
                Err(self.refusal(&block, asked(request), module, version).await)
            }
        }
    }

    /// Decides about one version, with whatever must be known for it.
    ///
    /// # Errors
    /// Something that it depends on can't be found out now.
    async fn decide(
        &self,
        asked: &str,
        module: &ModulePath,
        version: &Version,
    ) -> Result<Decision, Refusal> {
        let private = self.governor.private.matches(module);
        let needs = self.policy.needs(module, version, self.now, private);
        let mut facts = Facts {
            private,
            ..Facts::at(self.now)
        };
        if needs.age {
            let age = self.age(module, version).await;
            facts.age = age.map_err(|why| undecided(asked, &why))?;
        }
        if needs.notices {
            let notices = self.notices(module).await;
            notices.add_to(&mut facts, version);
        }
        Ok(self.policy.decide(module, version, &facts))
    }

    async fn refusal(
        &self,
        block: &Block,
        asked: String,
        module: &ModulePath,
        version: &Version,
    ) -> Refusal {
        let instead = self.instead(module, version).await;
        refusal(self.policy, block, asked, module, &instead)
    }

    /// What to take in place of a blocked version.
    async fn instead(&self, module: &ModulePath, version: &Version) -> Instead {
        if self.policy.denies_all(module, self.now) {
            return Instead::Nothing;
        }
        let listing = self.allowed(module);
        match tokio::time::timeout(self.governor.patience, listing).await {
            Ok(Ok(allowed)) => allowed.nearest(version),
            Ok(Err(_)) | Err(_) => Instead::Unknown,
        }
    }

    fn count_warnings(&self, warnings: &[Warning]) {
        let counter = &self.governor.metrics.policy_notices;
        for warning in warnings {
            counter.with_label_values(&[warning.name()]).inc();
        }
    }

    /// Something that was looked for in vain.
    fn count_unknown(&self, fact: &str) {
        let counter = &self.governor.metrics.policy_unknown;
        counter.with_label_values(&[fact]).inc();
    }
}

fn undecided(asked: &str, why: &str) -> Refusal {
    let failed = format!(
        "how old it is can't be found out now, and this proxy's policy depends on it\n{why}"
    );
    Refusal::new(Reason::PolicyUndecided, asked, failed).hint("try again in a moment")
}
