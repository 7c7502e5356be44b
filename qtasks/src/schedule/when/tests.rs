//! Every time zone around its transitions, against a minute-by-minute walk that knows nothing of stretches.

use jiff::civil;

use super::*;

fn times(expression: &str, zone: &str) -> Times {
    When::Cron { expression: expression.to_owned(), timezone: zone.to_owned() }.times(None).unwrap()
}

fn ms(text: &str) -> u64 {
    text.parse::<Timestamp>().unwrap().as_millisecond().try_into().unwrap()
}

/// The instants of an expression in a zone, after one instant and up to another, as UTC text.
fn between(expression: &str, zone: &str, from: &str, to: &str) -> Vec<String> {
    let (times, to) = (times(expression, zone), ms(to));
    let all = std::iter::successors(times.next(ms(from)), |at| times.next(*at)).take_while(|at| *at <= to);
    all.map(|at| Timestamp::from_millisecond(at.try_into().unwrap()).unwrap().to_string()).collect()
}

#[test]
fn a_time_of_day_that_is_left_out_runs_once_when_it_would_have_been_over() {
    // 02:00 becomes 03:00 in Berlin on 29 March 2026, at 01:00 UTC.
    let found = between("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00:00Z", "2026-03-31T12:00:00Z");
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-31T00:30:00Z"];
    assert_eq!(found, expected);
    // Several of them, and one that comes then anyhow, are one run.
    let found = between("0,30 2,3 29 3 *", "Europe/Berlin", "2026-03-28T12:00:00Z", "2026-03-30T12:00:00Z");
    assert_eq!(found, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z"]);
}

#[test]
fn a_time_of_day_that_comes_twice_runs_the_first_time() {
    // 03:00 becomes 02:00 in Berlin on 25 October 2026, at 01:00 UTC.
    let found = between("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(found, ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"]);
}

#[test]
fn what_runs_through_the_day_runs_through_real_time() {
    let found = between("0 * * * *", "Europe/Berlin", "2026-03-28T23:30:00Z", "2026-03-29T03:00:00Z");
    assert_eq!(found, ["2026-03-29T00:00:00Z", "2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z", "2026-03-29T03:00:00Z"]);
    let found = between("*/30 * * * *", "Europe/Berlin", "2026-10-24T23:45:00Z", "2026-10-25T02:00:00Z");
    assert_eq!(found.len(), 5, "{found:?}");
}

#[test]
fn every_is_counted_from_1970_or_from_its_start() {
    let every = When::every(Duration::from_secs(30)).unwrap();
    let times = every.times(None).unwrap();
    assert_eq!((times.next(0), times.next(29_999), times.next(30_000)), (Some(30_000), Some(30_000), Some(60_000)));
    let times = every.times(Some(100_007)).unwrap();
    assert_eq!(
        (times.next(5), times.next(100_006), times.next(100_007)),
        (Some(100_007), Some(100_007), Some(130_007))
    );
    assert_eq!(times.last_between(100_007, 100_007 + 90_000, 2), [160_007, 190_007]);
    assert_eq!(times.last_between(100_007, 100_007 + 90_000, 9).len(), 3);
    assert!(When::every(Duration::ZERO).is_err());
}

#[test]
fn what_is_no_expression_or_no_zone_is_told() {
    let wrong = |expression: &str, timezone: &str| {
        let when = When::Cron { expression: expression.to_owned(), timezone: timezone.to_owned() };
        when.times(None).unwrap_err().to_string()
    };
    assert!(
        wrong("61 9 * * *", "UTC").contains("\"61 9 * * *\" is not a cron expression"),
        "{}",
        wrong("61 9 * * *", "UTC")
    );
    assert!(wrong("0 9 * * *", "Europe/Berlim").contains("\"Europe/Berlim\" is not a time zone"));
    // There is no such day, and that is found out.
    assert_eq!(times("0 0 30 2 *", "Europe/Berlin").next(ms("2026-01-01T00:00:00Z")), None);
    assert_eq!(times("0 0 29 2 *", "UTC").next(ms("2026-01-01T00:00:00Z")), Some(ms("2028-02-29T00:00:00Z")));
}

/// What an expression means, without croner.
type Means = fn(civil::DateTime) -> bool;

const EXPRESSIONS: [(&str, bool, Means); 4] = [
    ("30 2 * * *", true, |t| (t.hour(), t.minute()) == (2, 30)),
    ("0 * * * *", false, |t| t.minute() == 0),
    ("*/15 * * * *", false, |t| t.minute() % 15 == 0),
    ("0 9 * * Mon-Fri", true, |t| (t.hour(), t.minute()) == (9, 0) && t.weekday().to_monday_one_offset() <= 5),
];

/// A walk over each minute from `from` to `to`: the instants of each of [`EXPRESSIONS`].
fn walk(zone: &TimeZone, from: i64, to: i64) -> [Vec<i64>; 4] {
    let mut found: [Vec<i64>; 4] = Default::default();
    let wall = |at: i64| zone.to_datetime(Timestamp::from_second(at).unwrap());
    // Times of day that were shown already are not shown for the first time.
    let mut shown = wall(from);
    for back in 1..=26 * 60 {
        shown = shown.max(wall(from - back * 60));
    }
    for at in (from..=to).step_by(60).skip(1) {
        let now = wall(at);
        // The minutes that the wall clock has not shown before, this one among them, and those that it left out.
        let mut new = Vec::new();
        while shown < now {
            shown = shown.checked_add(jiff::Span::new().minutes(1)).unwrap();
            new.push(shown);
        }
        for ((_, fixed, means), found) in EXPRESSIONS.iter().zip(&mut found) {
            if if *fixed { new.iter().any(|t| means(*t)) } else { means(now) } {
                found.push(at);
            }
        }
    }
    found
}

#[test]
fn every_zone_runs_once_an_instant_around_its_transitions() {
    const HOUR: i64 = 3600;
    let (first, last) = (ms("2024-01-01T00:00:00Z") / 1000, ms("2028-12-31T00:00:00Z") / 1000);
    let (first, last) = (i64::try_from(first).unwrap(), i64::try_from(last).unwrap());
    let (mut zones, mut windows, mut seen) = (0, 0, std::collections::HashSet::new());
    for name in TimeZoneDatabase::bundled().available() {
        zones += 1;
        let zone = TimeZoneDatabase::bundled().get(name.as_str()).unwrap();
        let all = zone.following(Timestamp::from_second(first).unwrap());
        let all = all.map(|t| t.timestamp().as_second()).take_while(|t| *t < last);
        let mut transitions: Vec<i64> = all.collect();
        if transitions.is_empty() {
            transitions.push(first + 40 * 24 * HOUR);
        }
        // Names that mean the same zone are looked at once.
        let offset = |at: &i64| zone.to_offset(Timestamp::from_second(*at).unwrap()).seconds();
        let same: Vec<_> = transitions.iter().map(|t| (*t, offset(&(t - 1)), offset(t))).collect();
        if !seen.insert(same) {
            continue;
        }
        let times = EXPRESSIONS.map(|(expression, ..)| times(expression, name.as_str()));
        for at in transitions {
            windows += 1;
            let (from, to) = (at - 27 * HOUR, at + 27 * HOUR);
            for ((times, expected), (expression, ..)) in times.iter().zip(walk(&zone, from, to)).zip(EXPRESSIONS) {
                let mut found = Vec::new();
                let mut last = from;
                while let Some(next) = times.next(u64::try_from(last).unwrap() * 1000) {
                    let next = i64::try_from(next / 1000).unwrap();
                    assert!(next > last, "`{expression}` in {name}: {next} after {last}");
                    if next > to {
                        break;
                    }
                    found.push(next);
                    last = next;
                }
                assert_eq!(found, expected, "`{expression}` in {name} around {at}");
            }
        }
    }
    assert!(zones > 400 && windows > 200, "{zones} zones, {windows} windows");
}
