//! What must be true of every history.

use std::sync::Arc;

use durable_write_crds::FailoverDrill;
use durable_write_crds::conditions::drill_reasons as reasons;
use durable_write_crds::drill::Verdict;
use durable_write_crds::evidence::{EVIDENCE_KEY, Evidence, digest};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;

use super::history::Ended;
use super::rds::Effect;
use super::world::{State, World};
use crate::drill::lease;
use crate::drill::step::has_ended;

pub(super) fn judge(world: &World) -> Result<Ended, String> {
    world.with(|state| {
        let documents: Vec<_> = state.store.all::<ConfigMap>().map(|config_map| read(&config_map)).collect();
        let mut broken = state.broken.clone();
        for document in &documents {
            match document {
                Some((evidence, _)) => broken.extend(lie(state, evidence)),
                None => broken.push("a claim has no complete evidence".to_owned()),
            }
        }
        for drill in state.store.all::<FailoverDrill>() {
            broken.extend(status(&drill, documents.iter().flatten()));
        }
        broken.extend(state.store.all::<Lease>().filter_map(|lease| left_behind(state, &lease)));
        let evidence = || documents.iter().flatten().map(|(evidence, _)| evidence);
        if broken.is_empty() {
            let verdicts = evidence().map(|evidence| (evidence.verdict, evidence.reason.clone())).collect();
            return Ok(Ended { kills: state.kills.clone(), verdicts });
        }
        let told: Vec<_> =
            evidence().map(|evidence| format!("{}: {} {}", evidence.claim.drill.uid, evidence.verdict, evidence.reason)).collect();
        let effects: Vec<_> = state.claims.iter().map(|claim| claim.effect).collect();
        Err(format!("{}; evidence {told:?}, calls {effects:?}", broken.join("; ")))
    })
}

fn read(config_map: &ConfigMap) -> Option<(Evidence, String)> {
    let text = config_map.data.as_ref()?.get(EVIDENCE_KEY).filter(|_| config_map.immutable == Some(true))?;
    Some((serde_json::from_str(text).unwrap(), digest(text)))
}

/// A verdict that is not true of what came of the call.
fn lie(state: &State, evidence: &Evidence) -> Option<String> {
    let claim = state.claims.iter().find(|claim| claim.nonce == evidence.claim.nonce)?;
    let happened = claim.effect == Some(Effect::ToTarget);
    let refused = matches!(claim.effect, None | Some(Effect::Refused | Effect::Lost | Effect::Nothing));
    let denials = [reasons::TRIGGER_UNKNOWN, reasons::NOT_CALLED, reasons::REFUSED, reasons::NO_FAILOVER_SEEN];
    // Of a cluster that is gone nobody sees what became of it.
    let denied = denials.contains(&evidence.reason.as_str()) && !state.gone;
    let lie = match evidence.verdict {
        Verdict::Pass => !happened,
        Verdict::Fail => refused,
        _ => denied && happened,
    };
    lie.then(|| format!("the evidence says {} {}, and of the call came {:?}", evidence.verdict, evidence.reason, claim.effect))
}

/// What the status of a drill says that is not so.
fn status<'a>(drill: &Arc<FailoverDrill>, documents: impl Iterator<Item = &'a (Evidence, String)>) -> Option<String> {
    let name = format!("{}/{}", drill.namespace().unwrap(), drill.name_any());
    if !has_ended(drill) {
        return Some(format!("{name} has not ended"));
    }
    let mut documents = documents;
    let own = documents.find(|(evidence, _)| Some(&evidence.claim.drill.uid) == drill.metadata.uid.as_ref());
    let status = drill.status.as_ref().unwrap();
    let shown = (status.verdict, status.evidence.as_ref().map(|evidence| &evidence.digest));
    match own {
        Some((evidence, digest)) if shown != (Some(evidence.verdict), Some(digest)) => {
            Some(format!("{name} does not show its evidence: {shown:?}"))
        }
        None if !matches!(shown, (Some(Verdict::Error | Verdict::Aborted), None)) => {
            Some(format!("{name} without evidence shows {shown:?}"))
        }
        _ => None,
    }
}

/// A Lease that a drill has kept which is still there.
fn left_behind(state: &State, lease: &Lease) -> Option<String> {
    let holder = lease::holder(lease).filter(|_| !state.late_leases.contains(&lease.uid().unwrap()))?;
    let drill = state.store.get::<FailoverDrill>(holder.namespace, holder.name)?;
    (drill.uid().as_deref() == Some(holder.uid)).then(|| format!("{}/{} has ended and keeps its Lease", holder.namespace, holder.name))
}
