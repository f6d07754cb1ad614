//! Takes hand-overs on the listener `device`, one after the other.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use cell_proto::ipc::CallerPolicy;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};

use crate::device::Engine;
use crate::handover::{HandOver, InvalidHandOver, REFUSED, TAKEN};

/// How long a caller may take to send its message.
const MESSAGE_DEADLINE: Duration = Duration::from_secs(5);
/// How long to wait after accept(2) failed, e.g. for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves for ever. Whatever a caller sends, the next one is served.
pub async fn serve(listener: UnixListener, policy: CallerPolicy, engine: Arc<Engine>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => hand_over(&stream, &policy, &engine).await,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn hand_over(stream: &UnixStream, policy: &CallerPolicy, engine: &Engine) {
    if let Err(refusal) = policy.identify(stream) {
        tracing::warn!(reason = refusal.reason(), %refusal, "caller refused");
        return answer(stream, Err(refusal.to_string())).await;
    }
    let outcome = match receive(stream).await {
        Ok(handed) => {
            let (interface, port) = (handed.interface.clone(), handed.port);
            let taken = engine.take(handed).await.map_err(|error| error.to_string());
            if taken.is_ok() {
                tracing::info!(%interface, port, "descriptors taken over");
            }
            taken
        }
        Err(refusal) => Err(refusal.to_string()),
    };
    if let Err(reason) = &outcome {
        tracing::warn!(reason, "hand-over refused");
    }
    answer(stream, outcome).await;
}

async fn receive(stream: &UnixStream) -> Result<HandOver, InvalidHandOver> {
    let received = stream.async_io(Interest::READABLE, || match HandOver::receive(stream) {
        Err(InvalidHandOver::Receive(e)) => Err(e),
        received => Ok(received),
    });
    match tokio::time::timeout(MESSAGE_DEADLINE, received).await {
        Ok(received) => received?,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}

async fn answer(stream: &UnixStream, outcome: Result<(), String>) {
    let message = match outcome {
        Ok(()) => vec![TAKEN],
        Err(text) => [&[REFUSED], text.as_bytes()].concat(),
    };
    // A caller that does not wait for its answer does not get one.
    if let Err(error) = stream.try_write(&message) {
        tracing::debug!(%error, "answer not delivered");
    }
}
