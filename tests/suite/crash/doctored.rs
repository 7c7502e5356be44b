//! Does the checker find what it is there for? A history without a fault, and one with each fault.

use std::collections::BTreeMap;

use qtasks::Status;

use super::checker::{Rule, check};
use super::history::{Entry, History, Kind, Log, Mode, Task, Terms};
use super::orders::{Fault, Held, Moment, Op};
use super::values::{digests, mixed};
use super::witness::{Answer, Call, Item, Line, Said, Watcher};

/// A millisecond, and the time at which everything begins.
const MS: u64 = 1_000;
const START: u64 = 1_000_000 * MS;

/// Writes a history as it would have come about. Each step takes a millisecond.
struct Scene {
    now: u64,
    history: History,
}

impl Scene {
    fn new(task: Task) -> Self {
        let log = Log {
            id: String::new(),
            status: Status::Running,
            attempt: 0,
            failures: 0,
            crashes: 0,
            yields: 0,
            tail: 0,
            rewinds: Vec::new(),
            final_value: None,
            events: Vec::new(),
        };
        let (logs, said) = (BTreeMap::from([(1, log)]), BTreeMap::new());
        Scene { now: START, history: History { tasks: vec![task], logs, said, terms: Terms::new(3) } }
    }

    fn say(&mut self, who: &str, said: Said) {
        self.now += MS;
        self.history.said.entry(who.to_owned()).or_default().push(Line(self.now, said));
    }

    fn log(&mut self) -> &mut Log {
        self.history.logs.get_mut(&1).expect("there is one")
    }

    fn claim(&mut self, who: &str, held: Held) {
        let (tail, sent) = (self.log().tail, self.now);
        self.say(who, Said::Claimed { held, tail, sent });
        self.log().attempt = held.attempt;
    }

    /// A body yields, and its handler is called where the value is new.
    fn yields(&mut self, who: &str, held: Held, at: (u64, u64), is_new: bool) {
        let item = Item { task: 1, attempt: held.attempt, index: at.0, hash: at.1 };
        self.say(who, Said::Yielded(item));
        if is_new {
            self.say(who, Said::Handled(item));
        }
    }

    /// The store takes an event.
    fn store(&mut self, epoch: u64, attempt: u32, kind: Kind) {
        self.now += MS;
        let (at, log) = (self.now, self.history.logs.get_mut(&1).expect("there is one"));
        let seq = log.tail + 1;
        let digest = mixed(seq);
        log.events.push(Entry { seq, epoch, attempt, at, kind, digest, sum: mixed(digest) });
        log.tail = seq;
        match kind {
            Kind::Yield { index, .. } => (log.yields, log.crashes) = (index + 1, 0),
            Kind::Rewind { to } => {
                log.yields = to;
                log.rewinds.push((seq, to));
            }
            Kind::Retry { lost: true, .. } => log.crashes += 1,
            Kind::Retry { lost: false, .. } => log.failures += 1,
            Kind::Completed => log.status = Status::Completed,
            _ => {}
        }
    }

    /// A worker sends events, and hears that they are stored.
    fn append(&mut self, who: &str, held: Held, kinds: &[Kind], answered: bool) {
        let Held { task, epoch, attempt } = held;
        let after_seq = self.log().tail;
        let ends = kinds.last().is_some_and(|k| k.is_end() || matches!(k, Kind::Retry { .. }));
        let stays = kinds.len() as u64 - u64::from(ends);
        let digest = digests((1..=stays).map(|i| mixed(after_seq + i)));
        let call = Call { task, epoch, after_seq, events: kinds.len() as u64, ends, digest };
        self.say(who, Said::Began(call));
        if answered {
            kinds.iter().for_each(|kind| self.store(epoch, attempt, *kind));
            let tail = self.log().tail;
            self.say(who, Said::Answered(call, Answer::Stored { tail }));
        }
    }

    /// Everyone reads everything that holds, and the end.
    fn read_to_the_end(&mut self, by: Watcher) {
        let events = self.log().events.clone();
        self.say("watcher-0", Said::Attached { by, task: 1 });
        for event in &events {
            match (by, event.kind) {
                (Watcher::Events, _) => {
                    self.say("watcher-0", Said::Read { by, task: 1, seq: event.seq, sum: event.sum });
                }
                (_, Kind::Yield { index, value, .. }) if !self.is_void(event.seq, index) || by == Watcher::Live => {
                    self.say("watcher-0", Said::Seen { by, task: 1, value });
                }
                (Watcher::Live, Kind::Rewind { to }) => {
                    self.say("watcher-0", Said::Rewound { by, task: 1, to, seq: event.seq });
                }
                _ => {}
            }
        }
        self.say("watcher-0", Said::Closed { by, task: 1, error: None });
    }

    fn is_void(&self, seq: u64, index: u64) -> bool {
        self.history.logs[&1].rewinds.iter().any(|(at, to)| *at > seq && *to <= index)
    }
}

const FIRST: Held = Held { task: 1, epoch: 10, attempt: 1 };
const SECOND: Held = Held { task: 1, epoch: 30, attempt: 2 };

/// A worker is killed with one value on its way; another goes on, from the same values or, where the task is erratic,
/// with others from the second on. Six values; everyone watches.
fn clean(name: &'static str) -> History {
    let mut task = Task::new(1, name, 6, 7);
    let mut scene = Scene::new(task.clone());
    let values = task.values.take().unwrap_or_else(|| Task::new(1, "steady", 6, 7).values.expect("steady"));
    let hash = |i: u64| values[usize::try_from(i).expect("small")].0;
    let kind = |i: u64, other: u64| {
        let (hash, value) = values[usize::try_from(i).expect("small")];
        Kind::Yield { index: i, hash: hash ^ other, value: value ^ other }
    };
    scene.claim("worker-0", FIRST);
    for i in 0..4 {
        scene.yields("worker-0", FIRST, (i, hash(i)), true);
    }
    scene.append("worker-0", FIRST, &[Kind::Started, kind(0, 0), kind(1, 0)], true);
    scene.say("worker-0", Said::Extended { held: FIRST, holds: true, sent: START });
    scene.append("worker-0", FIRST, &[kind(2, 0)], true);
    scene.append("worker-0", FIRST, &[kind(3, 0)], false);
    scene.say("suite", Said::Killed { worker: "worker-0".to_owned(), at: None, itself: false });
    scene.now += 1_000 * MS;
    let due = scene.now;
    scene.store(20, 1, Kind::Retry { lost: true, due });
    scene.claim("worker-1", SECOND);
    let (from, other) = if name == "erratic" { (1, 1) } else { (3, 0) };
    for i in 0..6 {
        let is_new = i >= from;
        scene.yields("worker-1", SECOND, (i, if is_new { hash(i) ^ other } else { hash(i) }), is_new);
    }
    let mut kinds = vec![Kind::Started];
    kinds.extend((other > 0).then_some(Kind::Rewind { to: from }));
    kinds.extend((from..6).map(|i| kind(i, other)));
    scene.append("worker-1", SECOND, &kinds, true);
    scene.append("worker-1", SECOND, &[Kind::Completed], true);
    for by in [Watcher::Live, Watcher::Late, Watcher::Events] {
        scene.read_to_the_end(by);
    }
    scene.history
}

fn log(history: &mut History) -> &mut Log {
    history.logs.get_mut(&1).expect("there is one")
}

fn renumber(log: &mut Log) {
    for (i, event) in log.events.iter_mut().enumerate() {
        event.seq = i as u64 + 1;
    }
    log.tail = log.events.len() as u64;
}

/// What a process said, with those lines left out or changed that `change` says.
fn retold(history: &mut History, who: &str, change: impl Fn(&mut Line) -> bool) {
    history.said.get_mut(who).expect("there is one").retain_mut(change);
}

fn tell(history: &mut History, who: &str, at: u64, said: Said) {
    let lines = history.said.entry(who.to_owned()).or_default();
    lines.push(Line(at, said));
    lines.sort_by_key(|Line(at, _)| *at);
}

/// The rules that a history breaks.
fn broken(history: &History) -> Vec<Rule> {
    let (violations, _) = check(history);
    let mut rules: Vec<Rule> = violations.iter().map(|v| v.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

/// Applies a fault to a history that has none.
fn finds(rule: Rule, name: &'static str, doctor: impl FnOnce(&mut History)) {
    let mut history = clean(name);
    assert_eq!(broken(&history), [], "without the fault");
    doctor(&mut history);
    let rules = broken(&history);
    assert!(rules.contains(&rule), "{rule:?} is not among {rules:?}");
}

#[test]
fn a_lost_a_doubled_and_a_swapped_event() {
    finds(Rule::Acknowledged, "steady", |h| {
        log(h).events.remove(3);
        renumber(log(h));
    });
    finds(Rule::Dense, "steady", |h| log(h).events[3].seq += 1);
    finds(Rule::Index, "steady", |h| {
        let double = log(h).events[3].clone();
        log(h).events.insert(4, double);
        renumber(log(h));
    });
    finds(Rule::Index, "steady", |h| {
        log(h).events.swap(1, 2);
        renumber(log(h));
    });
    finds(Rule::Effective, "steady", |h| h.tasks[0].values.as_mut().expect("steady")[4].1 ^= 1);
    // Every attempt has its own values: those of the last count.
    finds(Rule::Effective, "erratic", |h| {
        retold(h, "worker-1", |Line(_, said)| {
            if let Said::Yielded(item) = said {
                item.hash ^= u64::from(item.index == 5);
            }
            true
        });
    });
    finds(Rule::Notes, "steady", |h| h.tasks[0].notes = vec![0]);
    finds(Rule::Notes, "steady", |h| log(h).events[2].kind = Kind::Note { gap: 1 });
}

#[test]
fn an_event_of_a_zombie() {
    finds(Rule::OldEpoch, "steady", |h| {
        let zombie = Entry { epoch: 10, attempt: 1, ..log(h).events[6].clone() };
        log(h).events[7] = Entry { seq: 8, ..zombie };
    });
    // Under the epoch of its successor.
    finds(Rule::Acknowledged, "steady", |h| {
        let call = Call { task: 1, epoch: 10, after_seq: 6, events: 1, ends: false, digest: digests([mixed(7)]) };
        tell(h, "worker-0", START + 5_000 * MS, Said::Answered(call, Answer::Stored { tail: 7 }));
    });
    finds(Rule::Refused, "steady", |h| {
        retold(h, "worker-0", |Line(_, said)| {
            if let Said::Answered(_, answer) = said {
                *answer = Answer::Fenced;
            }
            true
        });
    });
    finds(Rule::Zombie, "steady", |h| {
        let sent = START + 5_000 * MS;
        tell(h, "worker-0", sent, Said::Extended { held: FIRST, holds: true, sent });
    });
    finds(Rule::Claim, "steady", |h| {
        tell(h, "worker-2", START + 5_000 * MS, Said::Claimed { held: SECOND, tail: 5, sent: START });
    });
    finds(Rule::Claim, "steady", |h| {
        retold(h, "worker-1", |Line(_, said)| {
            if let Said::Claimed { tail, .. } = said {
                *tail -= 1;
            }
            true
        });
    });
}

#[test]
fn an_end_in_the_middle_and_none_at_all() {
    finds(Rule::AfterEnd, "steady", |h| log(h).events[4].kind = Kind::Completed);
    finds(Rule::End, "steady", |h| {
        log(h).events.pop();
        renumber(log(h));
    });
    finds(Rule::End, "steady", |h| log(h).status = Status::Running);
    finds(Rule::End, "steady", |h| h.logs.clear());
}

#[test]
fn an_append_that_is_torn_or_that_nobody_sent() {
    finds(Rule::Torn, "steady", |h| {
        // Of two that were sent before the kill there is one.
        let call = Call { task: 1, epoch: 10, after_seq: 3, events: 2, ends: false, digest: 0 };
        retold(
            h,
            "worker-0",
            |Line(_, said)| !matches!(said, Said::Began(c) | Said::Answered(c, _) if c.after_seq >= 3),
        );
        tell(h, "worker-0", START + 100 * MS, Said::Began(call));
    });
    finds(Rule::Unsent, "steady", |h| {
        retold(
            h,
            "worker-0",
            |Line(_, said)| !matches!(said, Said::Began(c) | Said::Answered(c, _) if c.after_seq == 3),
        );
    });
}

#[test]
fn what_the_record_says_against_its_log() {
    finds(Rule::Record, "steady", |h| log(h).crashes = 1);
    finds(Rule::Record, "steady", |h| log(h).failures = 1);
    finds(Rule::Record, "steady", |h| log(h).yields = 5);
    finds(Rule::Record, "erratic", |h| log(h).rewinds.clear());
    finds(Rule::Budget, "steady", |h| h.terms.crashes_max = 0);
    finds(Rule::Budget, "steady", |h| log(h).events[4].kind = Kind::Failed { lost: true });
    finds(Rule::Backoff, "steady", |h| {
        log(h).events[4].kind = Kind::Retry { lost: false, due: START + 9_000 * MS };
    });
}

#[test]
fn a_lease_that_was_taken_too_soon_or_too_late() {
    finds(Rule::Stolen, "steady", |h| {
        let sent = START + 500 * MS;
        tell(h, "worker-0", sent, Said::Extended { held: FIRST, holds: true, sent });
    });
    let later = |h: &mut History| log(h).events[4..].iter_mut().for_each(|e| e.at += 60_000 * MS);
    finds(Rule::Takeover, "steady", later);
    let stopped = |h: &mut History, inside| {
        let at = Fault { op: Op::Append, moment: Moment::Inside, nth: 1 };
        let killed = h.said.remove("suite").expect("there is one")[0].0;
        tell(h, "suite", killed, Said::Stopped { worker: "worker-0".to_owned(), at });
        tell(h, "suite", killed + 900 * MS, Said::Continued { worker: "worker-0".to_owned(), inside });
    };
    finds(Rule::Takeover, "steady", |h| {
        later(h);
        stopped(h, false);
    });
    finds(Rule::FalseCrash, "steady", |h| stopped(h, true));
    // Nothing was done to it, and it lived.
    finds(Rule::Forgotten, "steady", |h| {
        h.said.remove("suite");
        for at in 0..10 {
            tell(h, "worker-0", START + at * 100 * MS, Said::Left);
        }
    });
    // Somebody wrote meanwhile.
    finds(Rule::FalseCrash, "steady", |h| {
        stopped(h, true);
        log(h).events[4].at -= 500 * MS;
    });
}

#[test]
fn a_handler_that_was_not_called_or_called_again() {
    let item = |index, hash| Item { task: 1, attempt: 2, index, hash };
    finds(Rule::HandledAgain, "steady", |h| {
        let hash = h.tasks[0].values.as_ref().expect("steady")[2].0;
        tell(h, "worker-1", START + 5_000 * MS, Said::Handled(item(2, hash)));
    });
    finds(Rule::Handled, "steady", |h| {
        retold(h, "worker-1", |Line(_, said)| !matches!(said, Said::Handled(i) if i.index == 4));
    });
    finds(Rule::Handled, "steady", |h| {
        retold(h, "worker-1", |Line(_, said)| !matches!(said, Said::Yielded(i) if i.index == 4));
    });
    finds(Rule::Window, "steady", |h| {
        for index in 10..1_040 {
            tell(h, "worker-1", START + 5_000 * MS, Said::Handled(item(index, 0)));
        }
    });
    // A task that goes on where it was may handle what it likes.
    let mut history = clean("steady");
    history.tasks[0].mode = Mode::Restart;
    tell(&mut history, "worker-1", START + 5_000 * MS, Said::Handled(item(0, 0)));
    assert_eq!(broken(&history), []);
}

#[test]
fn a_watcher_that_saw_too_much_too_little_or_too_soon() {
    let seen = |by: Watcher| move |said: &Said| matches!(said, Said::Seen { by: b, .. } if *b == by);
    finds(Rule::Durable, "steady", |h| {
        tell(h, "watcher-0", START, Said::Seen { by: Watcher::Slow, task: 1, value: 4711 });
    });
    finds(Rule::Durable, "steady", |h| {
        retold(h, "watcher-0", |Line(at, said)| {
            *at = if seen(Watcher::Live)(said) { START } else { *at };
            true
        });
    });
    finds(Rule::Durable, "steady", |h| {
        retold(h, "watcher-0", |Line(_, said)| {
            if let Said::Read { sum, seq: 4, .. } = said {
                *sum ^= 1;
            }
            true
        });
    });
    // One value, one event, the first value left out; the last left out; the end.
    let second = h_value(1);
    finds(Rule::Order, "steady", |h| {
        retold(
            h,
            "watcher-0",
            |Line(_, said)| !matches!(said, Said::Seen { by: Watcher::Live, value, .. } if *value == second),
        );
    });
    finds(Rule::Order, "steady", |h| {
        retold(h, "watcher-0", |Line(_, said)| !matches!(said, Said::Read { seq: 4, .. }));
    });
    let last = h_value(5);
    finds(Rule::Complete, "steady", |h| {
        retold(
            h,
            "watcher-0",
            |Line(_, said)| !matches!(said, Said::Seen { by: Watcher::Live, value, .. } if *value == last),
        );
    });
    finds(Rule::Complete, "steady", |h| {
        retold(h, "watcher-0", |Line(_, said)| !matches!(said, Said::Closed { by: Watcher::Events, .. }));
    });
    finds(Rule::Complete, "steady", |h| {
        retold(h, "watcher-0", |Line(_, said)| {
            if let Said::Closed { error, .. } = said {
                *error = Some("ended".to_owned());
            }
            true
        });
    });
}

/// A value of the steady task.
fn h_value(index: usize) -> u64 {
    Task::new(1, "steady", 6, 7).values.expect("steady")[index].1
}

#[test]
fn a_watcher_that_was_told_wrongly_of_a_rewind() {
    finds(Rule::Order, "erratic", |h| {
        retold(h, "watcher-0", |Line(_, said)| !matches!(said, Said::Rewound { .. }));
    });
    finds(Rule::Rewound, "erratic", |h| {
        retold(h, "watcher-0", |Line(_, said)| {
            if let Said::Rewound { to, .. } = said {
                *to = 2;
            }
            true
        });
    });
    // Nothing was taken from it.
    finds(Rule::Rewound, "erratic", |h| {
        retold(
            h,
            "watcher-0",
            |Line(_, said)| !matches!(said, Said::Seen { by: Watcher::Live, value, .. } if [h_value(1), h_value(2)].contains(value)),
        );
    });
    finds(Rule::Rewound, "erratic", |h| {
        retold(h, "watcher-0", |Line(_, said)| {
            match said {
                Said::Seen { by, .. } | Said::Rewound { by, .. } | Said::Closed { by, .. } if *by == Watcher::Live => {
                    *by = Watcher::Late;
                }
                Said::Seen { by, .. } | Said::Closed { by, .. } if *by == Watcher::Late => *by = Watcher::Live,
                _ => {}
            }
            true
        });
    });
}
