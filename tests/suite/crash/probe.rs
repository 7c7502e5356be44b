//! [`Probed`]: a store that says what is asked of it and what it answers, and stands still where it is told to.

use std::collections::HashMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use qtasks::event::{EventBatch, EventCode};
use qtasks::store::sqlite::{Point, on_transaction};
use qtasks::store::*;
use qtasks::{Status, TaskId, TaskRecord};
use serde::Deserialize;

use super::orders::{Fault, Held, Moment, Op, Orders};
use super::pass::passed_on;
use super::tasks::{handled, say};
use super::values::{digest, digests};
use super::witness::{self, Call, Line, Said, now};

/// How often a process that stands still looks whether it may go on.
const LOOK: Duration = Duration::from_millis(2);
/// A generator whose handler was not called for so long waits.
const STILL: Duration = Duration::from_millis(60);
/// A window of 1,024 events has so many values at least, with custom events between them.
const FULL: u64 = 880;

/// What a process knows of its fault.
#[derive(Debug)]
pub(crate) struct Probe {
    fault: Option<Fault>,
    /// It is there as soon as the process may go on.
    go: PathBuf,
    reached: AtomicBool,
    /// The next transaction is the one to stop in.
    armed: AtomicBool,
    counts: [AtomicU32; 4],
    /// How many values the store acknowledged.
    stored: AtomicU64,
    /// The number of each task here, by its id.
    tasks: Mutex<HashMap<TaskId, (u32, u32)>>,
}

impl Probe {
    pub(crate) fn new(orders: &Orders) -> Arc<Self> {
        let probe = Arc::new(Probe {
            fault: orders.fault,
            go: orders.dir.join(format!("{}.go", orders.name)),
            reached: AtomicBool::new(false),
            armed: AtomicBool::new(false),
            counts: Default::default(),
            stored: AtomicU64::new(0),
            tasks: Mutex::default(),
        });
        let hooked = Arc::clone(&probe);
        on_transaction(move |point| hooked.in_transaction(point));
        probe
    }

    fn begins(&self, op: Op) -> u32 {
        self.counts[op as usize].fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whether this is the point, or the first one after it.
    fn is_at(&self, op: Op, moment: Moment, nth: u32) -> Option<Fault> {
        self.fault.filter(|f| f.op == op && f.moment == moment && nth >= f.nth && !self.reached.load(Ordering::SeqCst))
    }

    fn reach(&self, fault: Fault) -> bool {
        let first = !self.reached.swap(true, Ordering::SeqCst);
        if first {
            say(Said::Reached(fault));
            tell(Said::Reached(fault));
        }
        first
    }

    /// Stands still, if it is here that it has to.
    async fn hold(&self, op: Op, moment: Moment, nth: u32) {
        let Some(fault) = self.is_at(op, moment, nth) else { return };
        if moment == Moment::Full && !self.fills().await {
            return;
        }
        if self.reach(fault) {
            while !self.go.exists() {
                tokio::time::sleep(LOOK).await;
            }
            say(Said::WentOn(fault));
        }
    }

    /// Waits until handlers are no longer called, for the store answers nothing meanwhile. Whether that is because the
    /// window is full, and not because a body has come to its end.
    async fn fills(&self) -> bool {
        loop {
            let before = handled();
            tokio::time::sleep(STILL).await;
            if handled() == before {
                return before - self.stored.load(Ordering::SeqCst) >= FULL;
            }
        }
    }

    /// The next transaction is of an operation to stop in.
    fn arm(&self, op: Op, nth: u32) {
        if self.is_at(op, Moment::Inside, nth).is_some() {
            self.armed.store(true, Ordering::SeqCst);
        }
    }

    /// In a transaction of the store, on whatever thread does it.
    fn in_transaction(&self, point: Point) {
        let Some(fault) = self.fault else { return };
        // At its begin, or when all is done but the commit.
        let here = if fault.nth.is_multiple_of(2) { Point::Begun } else { Point::BeforeCommit };
        if point == here && self.armed.swap(false, Ordering::SeqCst) && self.reach(fault) {
            while !self.go.exists() {
                std::thread::sleep(LOOK);
            }
            say(Said::WentOn(fault));
        }
    }

    /// Number and attempt of a task that was claimed here.
    fn known(&self, id: TaskId) -> (u32, u32) {
        let tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.get(&id).copied().unwrap_or_default()
    }

    fn held(&self, lease: Lease) -> Held {
        let (task, attempt) = self.known(lease.id);
        Held { task, epoch: lease.epoch, attempt }
    }

    fn claimed(&self, task: &ClaimedTask, sent: u64) {
        #[derive(Deserialize)]
        struct Args {
            #[serde(default)]
            task: u32,
        }
        let record = &task.record;
        let Args { task } = record.args.get().expect("all tasks here have one");
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).insert(record.id, (task, record.attempt));
        let held = Held { task, epoch: record.epoch, attempt: record.attempt };
        let said = Said::Claimed { held, tail: record.tail, sent };
        say(said.clone());
        tell(said);
    }

    /// What is to be said of an append, and how many values it has.
    fn call(&self, append: &Append) -> (Call, u64) {
        let ends = append.outcome != Outcome::Running;
        // Where they come to stand is of no matter.
        let stamp = qtasks::event::Stamp { seq: 1, epoch: 0, attempt: 0, at: std::time::UNIX_EPOCH };
        let batch: EventBatch = append.events.clone().stamp(stamp);
        let values = batch.iter().filter(|e| e.code == EventCode::Yield).count() as u64;
        let steady = batch.len() - usize::from(ends);
        let call = Call {
            task: self.known(append.id).0,
            epoch: append.epoch,
            after_seq: append.after_seq,
            events: batch.len() as u64,
            ends,
            digest: digests(batch.iter().take(steady).map(|e| digest(&e))),
        };
        (call, values)
    }
}

/// Tells the suite, which reads what this process prints.
pub(crate) fn tell(said: Said) {
    let mut line = serde_json::to_vec(&Line(now(), said)).expect("it can be written");
    line.push(b'\n');
    // The suite may have stopped listening.
    let _ = std::io::stdout().lock().write_all(&line).and_then(|()| std::io::stdout().flush());
}

#[derive(Debug)]
pub(crate) struct Probed {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) probe: Arc<Probe>,
}

impl Store for Probed {
    fn claim(&self, claim: Claim) -> Answer<'_, Claimed> {
        Box::pin(async move {
            let (probe, nth) = (&self.probe, self.probe.begins(Op::Claim));
            probe.hold(Op::Claim, Moment::Before, nth).await;
            probe.arm(Op::Claim, nth);
            let sent = now();
            let claimed = self.store.claim(claim).await?;
            for task in &claimed.tasks {
                probe.claimed(task, sent);
            }
            if !claimed.tasks.is_empty() {
                probe.hold(Op::Claim, Moment::After, nth).await;
            }
            Ok(claimed)
        })
    }

    fn append(&self, batch: Vec<Append>) -> Answer<'_, Vec<Appended>> {
        Box::pin(async move {
            let ends = batch.iter().any(|a| a.outcome != Outcome::Running);
            let op = if ends { Op::End } else { Op::Append };
            let (probe, nth) = (&self.probe, self.probe.begins(op));
            probe.hold(op, Moment::Before, nth).await;
            probe.hold(op, Moment::Full, nth).await;
            let calls: Vec<(Call, u64)> = batch.iter().map(|a| probe.call(a)).collect();
            for (call, _) in &calls {
                say(Said::Began(*call));
            }
            probe.arm(op, nth);
            let answers = self.store.append(batch).await;
            if answers.is_ok() {
                probe.hold(op, Moment::After, nth).await;
            }
            for (i, (call, values)) in calls.into_iter().enumerate() {
                let answer = match answers.as_ref().ok().and_then(|a| a.get(i)) {
                    Some(Appended::Stored { tail, .. }) => {
                        probe.stored.fetch_add(values, Ordering::SeqCst);
                        witness::Answer::Stored { tail: *tail }
                    }
                    Some(Appended::Fenced) => witness::Answer::Fenced,
                    Some(Appended::Conflict { .. }) => witness::Answer::Conflict,
                    None => witness::Answer::Failed,
                };
                say(Said::Answered(call, answer));
            }
            answers
        })
    }

    fn extend(&self, leases: Vec<Lease>, lease: Duration) -> Answer<'_, Vec<Extended>> {
        Box::pin(async move {
            let nth = self.probe.begins(Op::Extend);
            self.probe.hold(Op::Extend, Moment::Before, nth).await;
            self.probe.arm(Op::Extend, nth);
            let sent = now();
            let answers = self.store.extend(leases.clone(), lease).await?;
            self.probe.hold(Op::Extend, Moment::After, nth).await;
            for (lease, answer) in leases.into_iter().zip(&answers) {
                let holds = *answer != Extended::Fenced;
                say(Said::Extended { held: self.probe.held(lease), holds, sent });
            }
            Ok(answers)
        })
    }

    fn on_this_runtime(&self) -> Answer<'_, Arc<dyn Store>> {
        Box::pin(async move {
            let store = self.store.on_this_runtime().await?;
            Ok(Arc::new(Probed { store, probe: Arc::clone(&self.probe) }) as Arc<dyn Store>)
        })
    }

    passed_on!(store; add read watch sweep lookups rest);
}
