//! Server-sent events: which topic changed. The browser asks again for what it shows.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::Stream;
use futures_util::stream;

use crate::app::App;
use crate::events::{Topic, Versions};
use crate::http::dto::problem::Problems;
use crate::http::extract::Who;
use crate::service::auth;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A stream of `event: <topic>`, `data: {"version": n}`: all topics at once, then each as it changes, coalesced.
/// Ends with the session.
#[utoipa::path(get, path = "/api/events", tag = "events", operation_id = "stream_events",
    responses((status = 200, body = String, content_type = "text/event-stream"), Problems))]
pub async fn stream(
    State(app): State<Arc<App>>,
    who: Who,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let watch = app.events.watch();
    let state = Watcher {
        app,
        who,
        watch,
        sent: None,
    };
    let events = stream::unfold(state, |mut state| async move {
        let (topic, version) = state.next().await?;
        let event = Event::default()
            .event(topic.as_str())
            .data(format!("{{\"version\": {version}}}"));
        Some((Ok(event), state))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("keep-alive"))
}

struct Watcher {
    app: Arc<App>,
    who: Who,
    watch: tokio::sync::watch::Receiver<Versions>,
    sent: Option<Versions>,
}

impl Watcher {
    /// The next change that has not been sent; `None` when the session or the process ends.
    async fn next(&mut self) -> Option<(Topic, u64)> {
        loop {
            let now = *self.watch.borrow_and_update();
            let sent = self.sent.get_or_insert(Versions::NONE);
            if let Some(change) = now.first_difference(sent) {
                sent.set(change);
                return Some(change);
            }
            tokio::select! {
                changed = self.app.events.changed(&mut self.watch) => changed?,
                () = tokio::time::sleep(KEEP_ALIVE) => {}
            }
            if !auth::still_open(&self.app, &self.who.session) {
                return None;
            }
        }
    }
}
