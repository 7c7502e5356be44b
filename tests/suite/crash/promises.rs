//! Promises between processes, one at a time; and builds that break one, which the checker finds.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use qtasks::store::Cancelled;
use qtasks::{Status, TaskId};

use super::checker::{Figures, Rule, check};
use super::dice::Dice;
use super::history::{End, History, Kind};
use super::orders::{Broken, Fault, Moment, Op};
use super::round::{Blow, Plan, Round, Work};
use super::{judge, room, seed};

fn at(op: Op, moment: Moment, nth: u32) -> Fault {
    Fault { op, moment, nth }
}

/// With one worker, and nothing to do but this.
fn plan(name: &str, work: &[Work], blows: Vec<Blow>) -> Plan {
    Plan { workers: 1, targets: 1, feeds: false, blows, ..Plan::new(name, seed(), work) }
}

/// Plays a round that keeps its promises.
async fn kept(root: &Path, plan: Plan) -> (History, Figures) {
    let round = Round::open(root, plan).await;
    let dir = round.dir.clone();
    let history = round.play().await;
    let figures = judge(&dir, &history).unwrap_or_else(|told| panic!("{told}"));
    (history, figures)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_gives_tasks_back_unharmed() {
    let blows = (0..5).map(|i| Blow::Terminate(Duration::from_millis(100 + 40 * i))).collect();
    let work = [("slow", 400, 400), ("resumed", 20_000, 20_000), ("steady_sync", 20_000, 20_000)];
    let plan = Plan { concurrency: 3, watched: true, ..plan("sigterm", &work, blows) };
    let (history, figures) = kept(&room("sigterm"), plan).await;
    for log in history.logs.values() {
        assert_eq!((log.crashes, log.failures), (0, 0), "nothing is counted");
        assert!(!log.events.iter().any(|e| matches!(e.kind, Kind::Retry { .. })), "nothing is retried");
    }
    assert_eq!(history.logs[&1].attempt, 6, "and the attempt grows");
    assert_eq!(figures.refused, 0);
}

/// Waits until something is so in the store.
async fn until(round: &Round, id: TaskId, is_so: impl Fn(&qtasks::TaskRecord) -> bool) {
    let wait = async {
        loop {
            let record = round.app.store().get(vec![id]).await.unwrap().pop().flatten();
            if record.is_some_and(|r| is_so(&r)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(crate::soon(), wait).await.expect("it comes to be so");
}

/// Plays a round with one slow task, which is cancelled as soon as something is so.
async fn cancelled(root: &Path, plan: Plan, when: impl AsyncFn(&Round, TaskId)) -> (History, Figures) {
    let round = Round::open(root, plan).await;
    let id = round.add(("slow", 2_000, 2_000), &mut Dice::new(1)).await;
    round.expect(id, |task| task.end = End::Cancelled);
    let playing = tokio::spawn(Arc::clone(&round).play());
    when(&round, id).await;
    assert_eq!(round.app.store().cancel(id, "enough".to_owned()).await.unwrap(), Cancelled::Asked);
    let dir = round.dir.clone();
    let history = playing.await.unwrap();
    let figures = judge(&dir, &history).unwrap_or_else(|told| panic!("{told}"));
    assert!(history.logs[&1].yields > 0, "what was yielded is kept");
    (history, figures)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_reaches_the_worker_in_another_process() {
    let plan = Plan { watched: true, ..plan("running", &[], Vec::new()) };
    let (history, _) = cancelled(&room("cancel"), plan, async |round, id| {
        until(round, id, |record| record.yields >= 5).await;
    })
    .await;
    assert_eq!(history.logs[&1].attempt, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancel_outlives_the_worker_that_did_not_hear_it() {
    let stop = Blow::StopAt(at(Op::Append, Moment::Before, 5), Duration::from_millis(1_300));
    let plan = Plan { watched: true, ..plan("stopped", &[], vec![stop]) };
    let (history, figures) = cancelled(&room("cancel-stopped"), plan, async |round, id| {
        until(round, id, |record| record.status == Status::Running && record.yields > 0).await;
        let stopped = || std::fs::read_to_string(round.dir.join("suite.witness")).unwrap().contains("Stopped");
        crate::until(stopped).await;
    })
    .await;
    assert_eq!((history.logs[&1].attempt, history.logs[&1].crashes), (1, 0), "there is no other attempt");
    assert_eq!(figures.refused, 1, "and what the zombie had to say comes too late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_in_another_process_is_told_of_what_is_void() {
    // Behind the place from which attempts differ, however the appends fall.
    let blows = (0..4).map(|i| Blow::KillAt(at(Op::Append, Moment::After, 12 + 2 * i))).collect();
    let tasks = [("erratic", 20_000, 20_000), ("erratic", 20_000, 20_000)];
    let plan = Plan { watched: true, ..plan("rewinds", &tasks, blows) };
    let (history, figures) = kept(&room("rewinds"), plan).await;
    let rewinds: usize = history.logs.values().map(|log| log.rewinds.len()).sum();
    assert!(rewinds > 0, "the attempts differ");
    assert!(figures.rewound > 0, "somebody had what became void");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_zombie_that_is_given_its_own_task_again_keeps_it() {
    let stop = |nth| Blow::StopAt(at(Op::Append, Moment::Before, nth), Duration::from_millis(1_300));
    let work = [("slow", 300, 300), ("slow", 300, 300), ("slow", 300, 300), ("resumed", 20_000, 20_000)];
    let plan = Plan { concurrency: 4, ..plan("again", &work, vec![stop(8), stop(16), stop(24)]) };
    let (history, figures) = kept(&room("own-again"), plan).await;
    let lost = |log: &super::history::Log| log.events.iter().filter(|e| e.kind.is_lost()).count();
    let lost: Vec<usize> = history.logs.values().map(lost).collect();
    let stops = usize::try_from(figures.stops_outside).unwrap();
    assert!(lost.iter().all(|lost| *lost <= stops), "{lost:?} losses by {stops} stops");
}

/// Plays a round with a bug, and gives the rules that it broke.
async fn broken(name: &str, broken: Broken, plan: Plan) -> Vec<Rule> {
    let round = Round::open(&room(name), Plan { broken: Some(broken), ..plan }).await;
    let dir = round.dir.clone();
    let (violations, figures) = check(&round.play().await);
    std::fs::write(dir.join("verdict.txt"), format!("{figures:#?}\n{violations:#?}\n")).unwrap();
    let mut rules: Vec<Rule> = violations.iter().map(|v| v.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    println!("{name}: {rules:?}");
    rules
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_without_a_fence_is_found() {
    let stop = Blow::StopAt(at(Op::Append, Moment::Before, 20), Duration::from_millis(1_300));
    let plan = Plan { workers: 2, concurrency: 8, feeds: true, ..plan("no-fence", &[("slow", 400, 400)], vec![stop]) };
    let rules = broken("no-fence", Broken::NoFence, plan).await;
    assert!(rules.contains(&Rule::Acknowledged), "a zombie wrote: {rules:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_runs_ahead_of_the_store_is_found() {
    let kill = Blow::KillAt(at(Op::Append, Moment::Before, 3));
    let rules = broken("early", Broken::Early, plan("early", &[("erratic", 4_000, 4_000)], vec![kill])).await;
    assert!(rules.contains(&Rule::Durable), "a watcher saw what was never stored: {rules:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_skips_is_found() {
    let plan = Plan { watched: true, ..plan("skips", &[("steady", 4_000, 4_000)], Vec::new()) };
    let rules = broken("skips", Broken::SkipsOnLag, plan).await;
    // What it skips is an error of the page, after which the watcher sees nothing more.
    assert!(rules.contains(&Rule::Complete), "a watcher missed something: {rules:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_called_again_in_the_replay_is_found() {
    let kill = Blow::KillAt(at(Op::Append, Moment::Before, 5));
    let rules = broken("again", Broken::HandlesAgain, plan("again", &[("steady", 8_000, 8_000)], vec![kill])).await;
    assert!(rules.contains(&Rule::HandledAgain), "what was verified is handled: {rules:?}");
}
