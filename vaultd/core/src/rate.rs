//! How many of something in a span of time: exact, over a sliding window.

use std::collections::VecDeque;

/// At most `limit` events in any `span`.
#[derive(Debug, Clone)]
pub struct Window {
    limit: usize,
    span: u64,
    events: VecDeque<u64>,
}

/// The window is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full {
    /// After how many milliseconds the next one fits.
    pub retry_after: u64,
}

impl Window {
    /// `span` in milliseconds.
    pub fn new(limit: u32, span: u64) -> Window {
        Window {
            limit: limit as usize,
            span,
            events: VecDeque::new(),
        }
    }

    /// Counts an event at `now`, milliseconds of a clock that never goes back.
    ///
    /// # Errors
    /// When there were `limit` in the last `span`; the event is not counted then.
    pub fn admit(&mut self, now: u64) -> Result<(), Full> {
        while self
            .events
            .front()
            .is_some_and(|first| first.saturating_add(self.span) <= now)
        {
            self.events.pop_front();
        }
        if self.events.len() < self.limit {
            self.events.push_back(now);
            return Ok(());
        }
        let first = self.events.front().copied().unwrap_or(now);
        Err(Full {
            retry_after: first.saturating_add(self.span).saturating_sub(now),
        })
    }
}
