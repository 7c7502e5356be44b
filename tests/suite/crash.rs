//! Proof by killing: workers in processes of their own die, or are stopped for longer than their leases, at points of a
//! script and at random; a checker that trusts nobody decides from what they said until then, and from what the store
//! has, that nothing was lost, doubled, reordered or written by a zombie.
//!
//! `QTASKS_CRASH_SEED=n` plays the script of a seed again. What the last run left is under `target/tmp/crash`.

mod checker;
pub(crate) mod dice;
mod doctored;
pub(crate) mod history;
pub(crate) mod orders;
pub(crate) mod pass;
pub(crate) mod process;
mod promises;
mod round;
mod script;
mod values;
pub(crate) mod witness;

use std::path::{Path, PathBuf};
use std::time::Duration;

use checker::{Figures, Place, check};
use futures::StreamExt as _;
use history::History;
use round::{Plan, Round};

/// How many rounds are played at once: most of the time they wait for a lease to run out.
const AT_ONCE: usize = 6;
/// All rounds are over by then.
const DEADLINE: Duration = Duration::from_secs(240);

/// Where rounds of a test leave what they did; what the run before left is taken away.
fn room(test: &str) -> PathBuf {
    let room = Path::new(env!("CARGO_TARGET_TMPDIR")).join("crash").join(test);
    if room.exists() {
        std::fs::remove_dir_all(&room).unwrap();
    }
    std::fs::create_dir_all(&room).unwrap();
    room
}

fn seed() -> u64 {
    let given = std::env::var("QTASKS_CRASH_SEED").ok();
    given.map_or_else(witness::now, |seed| seed.parse().expect("a number"))
}

/// What must not be is an error; what was is written down beside it.
fn judge(dir: &Path, history: &History) -> Result<Figures, String> {
    let (violations, figures) = check(history);
    std::fs::write(dir.join("verdict.txt"), format!("{figures:#?}\n{violations:#?}\n")).unwrap();
    let shown: Vec<String> =
        violations.iter().take(10).map(|v| format!("{:?}, task {}: {}", v.rule, v.task, v.told)).collect();
    if violations.is_empty() {
        return Ok(figures);
    }
    Err(format!("{}: {} violations:\n{}", dir.display(), violations.len(), shown.join("\n")))
}

async fn play(root: PathBuf, plan: Plan) -> Result<Figures, String> {
    let round = Round::open(&root, plan).await;
    let dir = round.dir.clone();
    let history = round.play().await;
    tokio::task::spawn_blocking(move || judge(&dir, &history)).await.unwrap()
}

fn percentile(sorted: &[u64], part: usize) -> u64 {
    sorted.get((sorted.len() * part / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or_default() / 1000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_reordered_whatever_is_killed() {
    let (seed, root) = (seed(), room("kills"));
    println!("the script of QTASKS_CRASH_SEED={seed}");
    let plans = script::plans(seed);
    let rounds = futures::stream::iter(plans).map(|plan| {
        // A task of its own: one that panics does not end the others.
        let round = tokio::spawn(play(root.clone(), plan));
        async { round.await.unwrap_or_else(|e| Err(e.to_string())) }
    });
    let rounds = rounds.buffer_unordered(AT_ONCE).collect::<Vec<_>>();
    let (mut figures, mut wrong) = (Figures::default(), Vec::new());
    for round in tokio::time::timeout(DEADLINE, rounds).await.expect("all rounds end") {
        match round {
            Ok(of_one) => figures.add(of_one),
            Err(told) => wrong.push(told),
        }
    }
    assert!(wrong.is_empty(), "QTASKS_CRASH_SEED={seed}:\n{}", wrong.join("\n"));
    conclude(figures);
}

fn conclude(mut figures: Figures) {
    figures.taken_over.sort_unstable();
    figures.recovered.sort_unstable();
    let kills: u32 = figures.kills.iter().filter(|(place, _)| **place != Place::Itself).map(|(_, n)| n).sum();
    println!("kills by place: {:?}; {} while a generator ran at full speed", figures.kills, figures.at_full_speed);
    println!(
        "{} tasks, {} events watched, {} rewinds told; the loss of a worker was recorded within {} ms (p50), {} ms \
         (p99), {} ms at most; {} attempts lost by a starved worker",
        figures.tasks,
        figures.watched,
        figures.rewound,
        percentile(&figures.taken_over, 50),
        percentile(&figures.taken_over, 99),
        percentile(&figures.taken_over, 100),
        figures.starved,
    );
    println!(
        "{kills} kills, {} stops outside and {} inside a transaction, {} events acknowledged, lost 0, doubled 0, \
         {} zombie writes, accepted 0, recovery p50 {} ms, p99 {} ms",
        figures.stops_outside,
        figures.stops_inside,
        figures.acknowledged,
        figures.refused,
        percentile(&figures.recovered, 50),
        percentile(&figures.recovered, 99),
    );
    let landed = |place: Place| figures.kills.get(&place).copied().unwrap_or_default();
    for place in [Place::BeforeAppend, Place::InAppend, Place::StoredUnanswered, Place::FullWindow] {
        assert!(landed(place) >= 10, "{place:?}: {}", landed(place));
    }
    for place in [Place::InClaim, Place::ClaimedUnanswered, Place::InEnd, Place::EndUnanswered] {
        assert!(landed(place) >= 1, "{place:?}: {}", landed(place));
    }
    assert!(kills >= 100 && figures.at_full_speed >= 50, "{kills} kills, {} at full speed", figures.at_full_speed);
    assert!(figures.stops_outside >= 10 && figures.stops_inside >= 10);
    assert!(figures.refused > 0, "no zombie tried to write");
    assert!(figures.watched > figures.acknowledged / 4 && figures.rewound > 0, "nobody watched");
}
