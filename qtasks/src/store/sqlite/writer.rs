//! The thread that writes. Whatever comes while a transaction is under way goes into it, or into the next one: the
//! more there is to do, the less each costs.
//!
//! Invariant: nobody is answered, and nobody is told, before the transaction is committed. A job that fails takes the
//! transaction with it, and each job then runs again in one of its own, so that no refusal undoes what others wrote.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::super::Hint;
use super::super::listeners::Listeners;
use super::files::Files;
use super::turns::{self, Turns};
use super::tx::{Fault, Known, Tx};
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};

/// What comes while a transaction is under way goes into it, until it has taken so long.
const GATHER: Duration = Duration::from_millis(1);
/// A transaction that takes longer than this is not made longer.
const LONG: Duration = Duration::from_millis(20);
/// After so long without the lock there is a warning: somebody else has it, perhaps a process that is stopped.
const STUCK: Duration = Duration::from_secs(5);
/// After so long without the lock a job is refused, unless it is a heartbeat. The same as for connections that read.
const WAIT_MAX: Duration = super::schema::BUSY;
/// How often it is looked for jobs that have waited too long.
const LOOK_FOR_LATE: Duration = Duration::from_millis(100);
/// The longest wait between two tries to get the lock.
const LATE: Duration = Duration::from_millis(2);
/// Of the hints for other processes, so many of the latest transactions are kept.
const HINTS_KEPT: i64 = 4_096;

/// Something to be done in a transaction.
pub(super) trait Job: Send {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault>;
    /// Whether somebody still waits: what nobody waits for may be left undone, as a call that was dropped.
    fn is_wanted(&self) -> bool;
    /// Whether it has waited too long for another process.
    fn is_late(&self) -> bool;
    /// Says how it went, after the commit.
    fn answer(self: Box<Self>, outcome: Result<()>);
}

/// A job with an answer for who waits.
struct Typed<R, F> {
    run: F,
    result: Option<R>,
    reply: oneshot::Sender<Result<R>>,
    /// When it has waited too long; `None` for never.
    late_at: Option<Instant>,
}

/// How a job waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// Before all others, and for as long as its caller waits: the keeper has a time limit of its own.
    Heartbeat,
    /// Before all others.
    Soon,
    /// In its turn.
    Normal,
}

impl<R: Send, F: FnMut(&mut Tx<'_>) -> Result<R, Fault> + Send> Job for Typed<R, F> {
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), Fault> {
        self.result = Some((self.run)(tx)?);
        Ok(())
    }

    fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    fn is_late(&self) -> bool {
        self.late_at.is_some_and(|late_at| late_at <= Instant::now())
    }

    fn answer(self: Box<Self>, outcome: Result<()>) {
        let Typed { result, reply, .. } = *self;
        // Who no longer waits does not hear it.
        let _ = reply.send(outcome.map(|()| result.expect("it has run")));
    }
}

#[derive(Default)]
struct Jobs {
    /// Heartbeats and cancels never wait behind the rest.
    urgent: VecDeque<Box<dyn Job>>,
    rest: VecDeque<Box<dyn Job>>,
    closed: bool,
}

/// Where jobs wait for the thread.
#[derive(Default)]
pub(super) struct Queue {
    jobs: Mutex<Jobs>,
    more: Condvar,
}

impl Queue {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has something done in a transaction.
    pub(super) fn push<R: Send + 'static>(
        &self,
        urgency: Urgency,
        run: impl FnMut(&mut Tx<'_>) -> Result<R, Fault> + Send + 'static,
    ) -> oneshot::Receiver<Result<R>> {
        let (reply, answer) = oneshot::channel();
        let late_at = (urgency != Urgency::Heartbeat).then(|| Instant::now() + WAIT_MAX);
        let job = Box::new(Typed { run, result: None, reply, late_at });
        let mut jobs = self.jobs();
        let idle = jobs.urgent.is_empty() && jobs.rest.is_empty();
        if urgency != Urgency::Normal {
            jobs.urgent.push_back(job)
        } else {
            jobs.rest.push_back(job)
        }
        drop(jobs);
        if idle {
            self.more.notify_one();
        }
        answer
    }

    /// Lets the thread end when it has done what there is.
    pub(super) fn close(&self) {
        self.jobs().closed = true;
        self.more.notify_one();
    }

    /// All that waits; nothing after the close.
    fn take(&self) -> VecDeque<Box<dyn Job>> {
        let mut jobs = self.jobs();
        loop {
            if !jobs.urgent.is_empty() || !jobs.rest.is_empty() {
                let mut all = std::mem::take(&mut jobs.urgent);
                all.append(&mut jobs.rest);
                return all;
            }
            if jobs.closed {
                return VecDeque::new();
            }
            jobs = self.more.wait(jobs).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The jobs that have waited too long for another process, and those that nobody waits for any more. They are taken
    /// out of those that wait here and out of `jobs`.
    fn take_late(&self, jobs: &mut VecDeque<Box<dyn Job>>) -> Vec<Box<dyn Job>> {
        let mut waiting = self.jobs();
        let Jobs { urgent, rest, .. } = &mut *waiting;
        let mut late = Vec::new();
        for queue in [jobs, urgent, rest] {
            let (gone, kept) =
                std::mem::take(queue).into_iter().partition::<Vec<_>, _>(|j| j.is_late() || !j.is_wanted());
            *queue = kept.into();
            late.extend(gone);
        }
        late
    }

    /// What must not wait any longer.
    fn take_urgent(&self) -> Option<Box<dyn Job>> {
        self.jobs().urgent.pop_front()
    }

    /// The next to be done: what must not wait, else the first of `jobs`, else, with `new`, what came since.
    fn next(&self, jobs: &mut VecDeque<Box<dyn Job>>, new: bool) -> Option<Box<dyn Job>> {
        let mut waiting = self.jobs();
        if let Some(urgent) = waiting.urgent.pop_front() {
            return Some(urgent);
        }
        if jobs.is_empty() && new {
            std::mem::swap(jobs, &mut waiting.rest);
        }
        jobs.pop_front()
    }
}

/// The thread.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) files: Files,
    /// Tells the readers that a file is gone.
    pub(super) lost: Arc<AtomicBool>,
    pub(super) path: PathBuf,
    pub(super) queue: Arc<Queue>,
    pub(super) clock: Clock,
    pub(super) listeners: Arc<Listeners>,
    /// Names this store among those that write the file.
    pub(super) me: i64,
    pub(super) known: Known,
    pub(super) turns: Turns,
}

impl Writer {
    pub(super) fn start(mut self) -> Result<()> {
        let run = move || {
            loop {
                let mut jobs = self.queue.take();
                if jobs.is_empty() {
                    return;
                }
                while !jobs.is_empty() {
                    self.survive(&mut jobs);
                }
                self.turns.let_others();
            }
        };
        let spawned = std::thread::Builder::new().name("qtasks-sqlite".to_owned()).spawn(run);
        spawned.map(drop).map_err(|e| {
            Error::new(ErrorKind::Unavailable, format!("the store's thread does not start: {e}")).with_source(e)
        })
    }

    /// Runs jobs, and goes on where one of them panics: those that went with it are dropped, which is an answer.
    fn survive(&mut self, jobs: &mut VecDeque<Box<dyn Job>>) {
        if catch_unwind(AssertUnwindSafe(|| self.run(jobs))).is_err() {
            tracing::error!(path = %self.path.display(), "a transaction panicked, and was undone");
            let _ = self.db.execute_batch("ROLLBACK");
            self.known.forget();
        }
    }

    fn run(&mut self, jobs: &mut VecDeque<Box<dyn Job>>) {
        while !jobs.is_empty() {
            if let Err(error) = self.files.check(&self.lost) {
                jobs.drain(..).for_each(|job| job.answer(Err(error.again())));
                return;
            }
            let mut done = Vec::with_capacity(jobs.len());
            match self.transaction(jobs, &mut done, true) {
                Err(_) if done.len() > 1 => {
                    self.known.forget();
                    for (job, _) in done {
                        self.alone(job);
                        while let Some(urgent) = self.queue.take_urgent() {
                            self.alone(urgent);
                        }
                    }
                }
                outcome => self.answer(outcome, done),
            }
        }
    }

    fn alone(&mut self, job: Box<dyn Job>) {
        let mut done = Vec::new();
        let outcome = self.transaction(&mut VecDeque::from([job]), &mut done, false);
        self.answer(outcome, done);
    }

    /// Says how a transaction went: first to those who listen.
    fn answer(&mut self, outcome: rusqlite::Result<Vec<Hint>>, done: Vec<(Box<dyn Job>, Option<Error>)>) {
        match outcome {
            Ok(hints) => {
                self.listeners.tell(hints);
                for (job, refused) in done {
                    job.answer(refused.map_or(Ok(()), Err));
                }
            }
            Err(error) => {
                self.known.forget();
                for (job, _) in done {
                    job.answer(Err(super::to_error(&error, &self.path)));
                }
            }
        }
    }

    /// Runs jobs from the front, at least one, and, with `more`, for a while those that come and before them what is
    /// urgent, and commits. Those that were run are in `done`, each with why it was refused.
    fn transaction(
        &mut self,
        jobs: &mut VecDeque<Box<dyn Job>>,
        done: &mut Vec<(Box<dyn Job>, Option<Error>)>,
        more: bool,
    ) -> rusqlite::Result<Vec<Hint>> {
        match self.begin(jobs) {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(error) => {
                done.extend(jobs.drain(..).map(|job| (job, None)));
                return Err(error);
            }
        }
        super::hook(super::Point::Begun);
        let result = self.fill(jobs, done, more);
        if result.is_err() {
            // Where SQLite has done so itself, as when the disk is full, this finds nothing to do.
            let _ = self.db.execute_batch("ROLLBACK");
        }
        result
    }

    fn fill(
        &mut self,
        jobs: &mut VecDeque<Box<dyn Job>>,
        done: &mut Vec<(Box<dyn Job>, Option<Error>)>,
        more: bool,
    ) -> rusqlite::Result<Vec<Hint>> {
        let start = Instant::now();
        let mut tx = Tx::new(&self.db, self.clock.now_ms(), &mut self.known);
        tx.agree(&self.clock)?;
        loop {
            let took = start.elapsed();
            let next = match more {
                true if done.is_empty() || took < LONG => self.queue.next(jobs, took < GATHER),
                true => None,
                false => jobs.pop_front(),
            };
            let Some(mut job) = next else { break };
            if !job.is_wanted() {
                continue;
            }
            // It may have come after the beginning.
            tx.now = self.clock.now_ms();
            let ran = job.run(&mut tx);
            let (refused, failed) = match ran {
                Ok(()) => (None, None),
                Err(Fault::Refused(error)) => (Some(error), None),
                Err(Fault::Sql(error)) => (None, Some(error)),
            };
            done.push((job, refused));
            if let Some(error) = failed {
                return Err(error);
            }
        }
        let hints = tx.finish()?;
        if !hints.is_empty() {
            self.publish(&hints)?;
        }
        super::hook(super::Point::BeforeCommit);
        self.db.prepare_cached("COMMIT")?.execute([])?;
        super::hook(super::Point::Committed);
        Ok(hints)
    }

    /// Leaves hints for the other processes.
    fn publish(&self, hints: &[Hint]) -> rusqlite::Result<()> {
        let text = serde_json::to_string(hints).expect("hints are JSON");
        let mut insert = self.db.prepare_cached("INSERT INTO hint (writer, hints) VALUES (?1, ?2)")?;
        let k = insert.insert((self.me, text))?;
        if k % 256 == 0 {
            self.db.prepare_cached("DELETE FROM hint WHERE k <= ?1")?.execute([k - HINTS_KEPT])?;
        }
        if k >= super::watch::FAR {
            // The number before it was damaged; the next ones follow the last that was not.
            self.db.prepare_cached("DELETE FROM hint WHERE k >= ?1")?.execute([super::watch::FAR])?;
        }
        Ok(())
    }

    /// Begins a transaction, as soon as nobody else has one: other processes may hold theirs for as long as they live.
    /// Meanwhile refuses the jobs that have waited too long, none of which has been run. Returns whether a transaction
    /// has begun; if not, no job is left.
    fn begin(&self, jobs: &mut VecDeque<Box<dyn Job>>) -> rusqlite::Result<bool> {
        let mut waiting = None;
        let (mut start, mut looked, mut warned) = (None, Instant::now(), false);
        loop {
            match self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([]) {
                Ok(_) => return Ok(true),
                Err(error) if super::schema::is_busy(&error) => {}
                Err(error) => return Err(error),
            }
            if looked.elapsed() > LOOK_FOR_LATE {
                looked = Instant::now();
                for job in self.queue.take_late(jobs) {
                    job.answer(Err(super::busy(&self.path)));
                }
                if jobs.is_empty() {
                    return Ok(false);
                }
            }
            waiting = waiting.or_else(|| self.turns.wait());
            let waited = start.get_or_insert_with(Instant::now).elapsed();
            if !warned && waited > STUCK {
                warned = true;
                let path = self.path.display();
                tracing::warn!(%path, "another process has been writing to the store for {STUCK:?}; waiting for it");
            }
            // Soon at first, so that a turn that is left to this one is taken; then less often.
            std::thread::sleep((waited / 16).clamp(turns::LOOK, LATE));
        }
    }
}
