//! Reissues the certificate in time, with the same key, on disk and for new connections.

use std::{path::PathBuf, time::Duration};

use bt2c_p2p::{Env, Handle};
use bt2c_security::{CertificateManager, Credentials};
use tokio_util::sync::CancellationToken;

/// How often the certificate's end is looked at; it is reissued 30 days before.
const INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What one reissue is modelled to cost in a simulation: an RSA signature and two writes.
const COST: Duration = Duration::from_millis(10);

/// Looks once a day until it is told to stop.
pub(super) async fn run(
    env: Env,
    p2p: Handle,
    dir: PathBuf,
    mut credentials: Credentials,
    stop: CancellationToken,
) {
    loop {
        let wake = env.clock.sleep_until(env.clock.now() + INTERVAL);
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = wake => {}
        }
        let now = env.clock.now();
        if !credentials.needs_renewal(now) {
            continue;
        }
        let (manager, current) = (CertificateManager::new(&dir), credentials.clone());
        let renewed = match env.compute.compute(COST, move || manager.renew(&current, now)).await {
            Ok(renewed) => renewed,
            Err(error) => {
                tracing::error!(%error, "certificate not reissued");
                continue;
            }
        };
        match p2p.set_credentials(&renewed).await {
            Ok(()) => tracing::info!(until = %renewed.not_after(), "certificate reissued"),
            Err(error) => {
                tracing::error!(%error, "certificate reissued, but shown only from the next start on")
            }
        }
        credentials = renewed;
    }
}
