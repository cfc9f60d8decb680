//! The operator as a whole: the HTTP port, the leader election, and the controllers of the one that leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use kube::Client;

use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::{drill, http, leader, pipeline};

/// What the HTTP port serves.
struct Served {
    pipelines: pipeline::View,
    drills: drill::View,
    metrics: Arc<Metrics>,
    leads: AtomicBool,
}

impl http::Served for Served {
    /// Who waits for its turn to lead is ready to: it has no watches.
    fn ready(&self) -> bool {
        !self.leads.load(Ordering::Relaxed) || (self.pipelines.ready() && self.drills.ready())
    }

    fn metrics(&self) -> String {
        self.metrics.encode(self.pipelines.conditions_ready(), self.drills.metrics(&self.pipelines.all()))
    }
}

/// Serves HTTP, and runs the controllers while this process leads, until `shutdown`; then the looks that have begun are finished.
///
/// # Errors
/// The HTTP port cannot be listened on, the leader's Lease was lost, or a controller's loop ended by itself.
pub async fn run(
    client: Client,
    rds: aws_sdk_rds::Client,
    settings: Settings,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::default());
    let drills = drill::Controller::new(&client, &rds, &settings, Arc::clone(&metrics));
    let pipelines = pipeline::Controller::new(client.clone(), rds, settings.clone(), Arc::clone(&metrics), drills.drills());
    let served = Arc::new(Served { pipelines: pipelines.view(), drills: drills.view(), metrics, leads: AtomicBool::new(false) });
    let shutdown = shutdown.boxed().shared();
    let server = http::serve(settings.listen, Arc::clone(&served), shutdown.clone()).await?;
    leader::lead(&client, &settings, shutdown.clone(), || async {
        served.leads.store(true, Ordering::Relaxed);
        futures::try_join!(pipelines.run(shutdown.clone()), drills.run(shutdown.clone())).map(drop)
    })
    .await?;
    server.await?;
    Ok(())
}
