//! Time limits that hold on a machine that stalls: the time this process did not get to run does not count.

use std::{
    future::Future,
    sync::{
        Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const LOOK: Duration = Duration::from_millis(10);
static STALLED: AtomicU64 = AtomicU64::new(0);
static WATCHING: Once = Once::new();

/// The microseconds so far for which a thread that wanted to run could not.
fn stalled() -> u64 {
    WATCHING.call_once(|| {
        std::thread::spawn(|| {
            loop {
                let began = Instant::now();
                std::thread::sleep(LOOK);
                let over = began.elapsed().saturating_sub(2 * LOOK);
                STALLED.fetch_add(u64::try_from(over.as_micros()).unwrap_or(0), Relaxed);
            }
        });
    });
    STALLED.load(Relaxed)
}

/// How long something takes, but for what the machine took.
pub struct Clock {
    began: Instant,
    stalled: u64,
}

impl Clock {
    pub fn start() -> Self {
        Self { stalled: stalled(), began: Instant::now() }
    }

    pub fn took(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_micros(stalled() - self.stalled))
    }
}

/// Waits for what has its end within the limit.
#[track_caller]
pub fn in_time<T>(limit: Duration, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    async move {
        let clock = Clock::start();
        let end = tokio::time::timeout(limit + Duration::from_secs(10), what).await;
        let took = clock.took();
        assert!(took < limit, "{took:?} where {limit:?} is the limit, at {at}");
        end.expect("an end")
    }
}
