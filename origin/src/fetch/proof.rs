//! What must hold of a zip before anyone gets its last bytes, and before it is kept.

use std::time::Instant;

use modcdn_core::goproxy::{ModulePath, Request, Version};
use modcdn_core::h1::H1;
use modcdn_core::refusal::{Reason, Refusal};

use super::Engine;
use super::following::Following;
use crate::archive::{Checked, Fault, Scan, check_scanned};
use crate::disk;
use crate::store::shelf::Local;
use crate::store::spool::{Spool, disk_failed};
use crate::upstream::asked;

impl Engine {
    /// Scans a growing body, if it is one that must be proven.
    pub(super) fn follow(&self, request: &Request, spool: &Spool) -> Option<Following> {
        let Request::Zip(module, version) = request else {
            return None;
        };
        let scan = Scan::new(module, version, self.archives);
        Some(Following::start(spool, scan, self.processors.clone()))
    }

    /// Checks a whole body: `None` for what needs no check, else the h1 of a zip that follows the
    /// rules.
    ///
    /// # Errors
    /// The refusal to tell. Of [bad content](Reason::is_bad_content) nothing may be kept but in
    /// quarantine; otherwise nothing is known of the body yet.
    pub(super) async fn prove(
        &self,
        request: &Request,
        body: &Local,
        len: u64,
        following: Option<Following>,
    ) -> Result<Option<H1>, Refusal> {
        let Request::Zip(module, version) = request else {
            return Ok(None);
        };
        let started = Instant::now();
        let scan = match following {
            Some(following) => following.finish().await,
            None => None,
        };
        let checked = self.check(module, version, body, len, scan).await;
        let seconds = started.elapsed().as_secs_f64();
        self.metrics.zip_check_seconds.observe(seconds);
        let checked = checked.map_err(|fault| self.refuse(request, &fault))?;
        Ok(Some(checked.h1))
    }

    async fn check(
        &self,
        module: &ModulePath,
        version: &Version,
        body: &Local,
        len: u64,
        scan: Option<Scan>,
    ) -> Result<Checked, Fault> {
        let (body, limits) = (body.clone(), self.archives);
        let (module, version) = (module.clone(), version.clone());
        let _processor = self.processors.acquire().await;
        disk::blocking(move || {
            let checked = check_scanned(&body, len, &module, &version, &limits, scan);
            Ok(checked)
        })
        .await?
    }

    /// Counts a fault, and puts it into words.
    fn refuse(&self, request: &Request, fault: &Fault) -> Refusal {
        let asked = asked(request);
        if let Fault::Io(error) = fault {
            self.tree.note("check", error);
            return disk_failed(&asked, error);
        }
        self.metrics
            .bad_zips
            .with_label_values(&[fault.name()])
            .inc();
        tracing::error!(asked, fault = fault.name(), "zip breaks the rules: {fault}");
        Refusal::new(Reason::ZipRules, asked, format!("the zip {fault}"))
            .hint("no go command takes this zip: ask its author, or use another version")
    }
}
