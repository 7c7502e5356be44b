//! The script: which rounds there are, and what is done to their workers. All of it follows from a seed.

use std::time::Duration;

use super::dice::Dice;
use super::orders::{Fault, Moment, Op};
use super::round::{Blow, Plan, Work};

/// Generators that never wait.
const FAST: [Work; 6] = [
    ("steady", 4_000, 12_000),
    ("steady_sync", 4_000, 12_000),
    ("erratic", 4_000, 12_000),
    ("resumed", 4_000, 12_000),
    ("restarted", 4_000, 12_000),
    ("noted", 4_000, 12_000),
];
/// Of every sort, and soon over.
const MIXED: [Work; 7] = [
    ("steady_sync", 100, 500),
    ("erratic", 100, 500),
    ("resumed", 100, 500),
    ("noted", 100, 500),
    ("failing", 100, 500),
    ("slow", 20, 60),
    ("plain", 10, 100),
];
/// Most of them are still at it when a zombie wakes.
const LONG: [Work; 6] = [
    ("slow", 200, 300),
    ("slow", 200, 300),
    ("slow", 200, 300),
    ("slow", 200, 300),
    ("steady", 5_000, 10_000),
    ("erratic", 5_000, 10_000),
];

fn fault(op: Op, moment: Moment, nth: u64) -> Fault {
    Fault { op, moment, nth: u32::try_from(nth).expect("small") }
}

pub(super) fn plans(seed: u64) -> Vec<Plan> {
    let mut dice = Dice::new(seed);
    let mut plans = kills_at_full_speed(&mut dice);
    plans.extend(kills_of_all_sorts(&mut dice));
    plans.extend(stops(&mut dice));
    plans.push(Plan {
        workers: 2,
        crashes_max: 3,
        watched: true,
        feeds: false,
        ..Plan::new("poison", dice.roll(), &[("poison", 3, 9), ("steady", 3_000, 6_000), ("resumed", 3_000, 6_000)])
    });
    plans
}

/// Deals blows to rounds with one, two and three workers.
fn rounds(name: &str, n: usize, blows: &[Blow], work: &[Work], dice: &mut Dice) -> Vec<Plan> {
    let each = blows.len().div_ceil(n);
    let round = |(i, blows): (usize, &[Blow])| Plan {
        workers: 1 + i % 3,
        targets: 1 + i % 3,
        watched: i % 2 == 0,
        blows: blows.to_vec(),
        ..Plan::new(&format!("{name}-{i}"), dice.roll(), work)
    };
    blows.chunks(each).enumerate().map(round).collect()
}

fn kills_at_full_speed(dice: &mut Dice) -> Vec<Plan> {
    let mut blows = Vec::new();
    // More of those whose point is not always where it seems.
    let points = [(Moment::Before, 18, 12), (Moment::Full, 16, 5), (Moment::Inside, 14, 12), (Moment::After, 14, 12)];
    for (moment, times, most) in points {
        blows.extend((0..times).map(|_| Blow::KillAt(fault(Op::Append, moment, dice.between(2, most)))));
    }
    blows.extend((0..26).map(|_| Blow::KillAfter(Duration::from_millis(dice.between(0, 250)))));
    dice.shuffle(&mut blows);
    rounds("full-speed", 6, &blows, &FAST, dice)
}

fn kills_of_all_sorts(dice: &mut Dice) -> Vec<Plan> {
    let mut blows = Vec::new();
    for op in [Op::Claim, Op::End] {
        for moment in [Moment::Before, Moment::Inside, Moment::After] {
            blows.extend((0..4).map(|_| Blow::KillAt(fault(op, moment, dice.between(1, 3)))));
        }
    }
    blows.extend((0..6).map(|_| Blow::KillAfter(Duration::from_millis(dice.between(0, 500)))));
    blows.extend((0..6).map(|_| Blow::Terminate(Duration::from_millis(dice.between(0, 300)))));
    dice.shuffle(&mut blows);
    rounds("mixed", 3, &blows, &MIXED, dice)
}

/// Outside of transactions and inside, in rounds of their own.
fn stops(dice: &mut Dice) -> Vec<Plan> {
    let stop = |op, moment, dice: &mut Dice| {
        let wait = Duration::from_millis(dice.between(1_300, 2_200));
        Blow::StopAt(fault(op, moment, dice.between(1, 5)), wait)
    };
    let outside = [
        (Op::Append, Moment::Before),
        (Op::Append, Moment::After),
        (Op::Append, Moment::Full),
        (Op::Append, Moment::Before),
        (Op::Claim, Moment::After),
        (Op::End, Moment::Before),
    ];
    let inside = [Op::Append, Op::Claim, Op::End, Op::Extend].map(|op| (op, Moment::Inside));
    let mut plans = Vec::new();
    for (name, points, times) in [("stop-outside", &outside[..], 1), ("stop-inside", &inside[..], 2)] {
        for i in 0..2 {
            let all = points.iter().flat_map(|p| std::iter::repeat_n(p, times));
            let mut blows: Vec<Blow> = all.map(|(op, moment)| stop(*op, *moment, dice)).collect();
            dice.shuffle(&mut blows);
            let plan = Plan::new(&format!("{name}-{i}"), dice.roll(), if i == 0 { &LONG } else { &MIXED });
            plans.push(Plan { workers: 2 + i, targets: 1, watched: true, blows, ..plan });
        }
    }
    plans
}
