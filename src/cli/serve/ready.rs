//! Waits for what is away until clients can be served.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::auth::{self, Verifier};
use crate::cli::readiness::{self, Check, State, Stops, Trouble};
use crate::config::Config;
use crate::observe::{Event, Observer};
use crate::tenant::Directory;

use super::Error;
use super::notify::Notify;
use super::watch::{Standing, Watch};

/// The first pause before another try; it doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(500);
/// Short enough that nobody waits long for a server that is back.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The same trouble is told again after this time.
const REMINDER: Duration = Duration::from_secs(30);

/// What the start needs of the database.
pub(super) struct Ready {
    pub(super) directory: Directory,
    pub(super) watch: Watch,
    pub(super) standing: Standing,
}

/// Looks until everything is there that serving needs.
///
/// # Errors
///
/// Says what has to be changed before it can start.
pub(super) async fn wait(
    config: &Config,
    verifier: &Result<Verifier, auth::Error>,
    home: &Handle,
    waiting: &mut Waiting,
) -> Result<Ready, Error> {
    loop {
        let looked = readiness::look(config, verifier, home).await;
        let stops = |what| looked.checks.iter().filter(move |check| check.stops(what).is_some());
        let wrong: Vec<String> = stops(Stops::Start).map(refusal).collect();
        if !wrong.is_empty() {
            return Err(Error::Unready(wrong));
        }
        if let Some(check) = stops(Stops::Waiting).next() {
            waiting.pause(check).await;
            continue;
        }
        // Both are there if nothing has failed.
        if let (Some(directory), Some((watch, standing))) = (looked.directory, looked.watch) {
            waiting.end();
            looked.checks.iter().for_each(|check| tell(check, &waiting.observer));
            return Ok(Ready { directory, watch, standing });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tells what does not keep clients from being served. Findings of the lints are told by `watch`.
pub(super) fn tell(check: &Check, observer: &Observer) {
    let (State::Warning(trouble) | State::Failed(trouble, _)) = &check.state else { return };
    if check.subject != "lint" {
        let Trouble { cause, cure } = trouble.clone();
        let (subject, value) = (check.subject.clone(), check.value.clone());
        observer.observe(Event::CheckFailed { subject, value, cause, cure });
    }
}

/// Three lines for the operator.
fn refusal(check: &Check) -> String {
    let Check { subject, value, .. } = check;
    let Some(Trouble { cause, cure }) = check.stops(Stops::Start) else { return String::new() };
    let cure = cure.replace('\n', "\n          ");
    format!("  {subject}: {value}\n    cause: {cause}\n    cure:  {cure}")
}

/// What is waited for, and since when.
pub(super) struct Waiting {
    observer: Observer,
    notify: Notify,
    /// When it began, and what it was about.
    began: Option<Instant>,
    told: Option<(Instant, String)>,
    pause: Duration,
}

impl Waiting {
    pub(super) const fn new(observer: Observer, notify: Notify) -> Self {
        Self { observer, notify, began: None, told: None, pause: PAUSE }
    }

    /// Tells what is away, now and then, and waits before the next try.
    pub(super) async fn pause(&mut self, check: &Check) {
        let Some(Trouble { cause, cure }) = check.stops(Stops::Waiting) else { return };
        let began = *self.began.get_or_insert_with(Instant::now);
        let what = format!("{}: {}", check.subject, check.value);
        let text = format!("{what}: {cause}");
        let is_news =
            self.told.as_ref().is_none_or(|(at, last)| *last != text || at.elapsed() >= REMINDER);
        if is_news {
            // That it is not ready, the service manager knows anyway.
            let _ = self.notify.status(&format!("Waiting for {what}"));
            self.told = Some((Instant::now(), text));
            self.observer.observe(Event::Waiting {
                what,
                cause: cause.clone(),
                cure: cure.clone(),
                waited: began.elapsed(),
                next: self.pause,
            });
        }
        tokio::time::sleep(self.pause).await;
        self.pause = self.pause.saturating_mul(2).min(LONGEST_PAUSE);
    }

    /// Tells that it is over, if there was anything to wait for.
    pub(super) fn end(&mut self) {
        if let Some(began) = self.began.take() {
            self.observer.observe(Event::WaitingOver { waited: began.elapsed() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn away(cause: &str) -> Check {
        let trouble = Trouble { cause: cause.to_owned(), cure: "start it".to_owned() };
        Check {
            subject: "postgres".to_owned(),
            value: "db:5432".to_owned(),
            state: State::Failed(trouble, Stops::Waiting),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_trouble_is_told_every_half_minute_and_another_at_once() {
        let (observer, mut events) = Observer::with_channel();
        let mut waiting = Waiting::new(observer, Notify::to(None));
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(60) {
            waiting.pause(&away("connection refused")).await;
        }
        waiting.pause(&away("the database system is starting up")).await;
        waiting.end();
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        let causes: Vec<_> = told
            .iter()
            .filter_map(|event| {
                let Event::Waiting { cause, waited, .. } = event else { return None };
                Some((cause.as_str(), waited.as_secs()))
            })
            .collect();
        assert_eq!(causes.len(), 3, "{told:?}");
        assert_eq!(causes[0], ("connection refused", 0));
        assert!((30..=35).contains(&causes[1].1), "{told:?}");
        assert_eq!(causes[2].0, "the database system is starting up");
        assert!(matches!(told.last(), Some(Event::WaitingOver { .. })), "{told:?}");
    }
}
