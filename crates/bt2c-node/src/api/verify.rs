//! `POST /verify`: the stored chain is read again and compared with the peers'; a line of JSON for each step of it.

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::State as Extract,
    http::header::CONTENT_TYPE,
    response::IntoResponse,
};
use futures_util::{FutureExt, StreamExt, stream};
use tokio::sync::mpsc;

use super::{ApiError, State, listener::Endless, views::VerifyView};

/// 200 and lines: some [`VerifyView::Progress`], then one that is another. The whole chain is read, so one check runs at a
/// time; it ends when nobody reads its lines any more.
pub(super) async fn verify(
    Extract(state): Extract<State>,
    Extension(endless): Extension<Endless>,
) -> Result<impl IntoResponse, ApiError> {
    let place = state
        .checks
        .try_acquire_owned()
        .map_err(|_| ApiError::busy("the chain is being checked already; one check runs at a time"))?;
    endless.mark();
    let (sender, receiver) = mpsc::channel(1);
    let check = async move {
        let _place = place;
        // Who reads slowly misses steps, and nothing else.
        let step = |checked, of| drop(sender.try_send(VerifyView::Progress { checked, of }));
        let last = match state.node.sync().verify_chain_consistency(step).await {
            Ok(consistency) => VerifyView::Whole(consistency.into()),
            Err(fault) => VerifyView::Fault { fault: fault.to_string() },
        };
        // An error means that nobody waits for it.
        let _ = sender.send(last).await;
    };
    let told = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<VerifyView>| {
        receiver.recv().await.map(|view| (Some(view), receiver))
    });
    let lines = stream::select(Box::pin(told), check.into_stream().map(|()| None).boxed())
        .filter_map(async |view: Option<VerifyView>| view)
        .map(|view| {
            let mut line = serde_json::to_vec(&view)?;
            line.push(b'\n');
            Ok::<_, serde_json::Error>(Bytes::from(line))
        })
        .take_until(state.stopping.cancelled_owned());
    Ok(([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)))
}
