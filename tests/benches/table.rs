//! Rounds, medians, and the table at the end.

use std::fmt;

/// How many rounds are counted.
pub(crate) const ROUNDS: usize = 5;

/// What is hoped for.
#[derive(Clone, Copy)]
pub(crate) enum Aim {
    AtLeast(f64),
    AtMost(f64),
    None,
}

impl Aim {
    fn is_met_by(self, figure: f64) -> bool {
        match self {
            Aim::AtLeast(aim) => figure >= aim,
            Aim::AtMost(aim) => figure <= aim,
            Aim::None => true,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aim::AtLeast(aim) => write!(f, ">= {aim}"),
            Aim::AtMost(aim) => write!(f, "<= {aim}"),
            Aim::None => Ok(()),
        }
    }
}

/// Rows, printed when all are there.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

struct Row {
    what: String,
    ours: f64,
    limit: Option<f64>,
    unit: &'static str,
    /// The median of the rounds' ratios, the least and the greatest.
    ratio: Option<[f64; 3]>,
    aim: Aim,
    met: bool,
    note: String,
}

/// What the rounds brought: ours and the limit, in turns.
pub(crate) struct Rounds {
    ours: Vec<f64>,
    limit: Vec<f64>,
}

/// Measures both in turns, after a round that is not counted.
pub(crate) fn rounds(what: &str, mut ours: impl FnMut() -> f64, mut limit: impl FnMut() -> f64) -> Rounds {
    eprint!("{what} ");
    ours();
    limit();
    let mut rounds = Rounds { ours: Vec::new(), limit: Vec::new() };
    for _ in 0..ROUNDS {
        rounds.ours.push(ours());
        rounds.limit.push(limit());
        eprint!(".");
    }
    eprintln!();
    rounds
}

/// The median; of an even number the greater of the two in the middle.
pub(crate) fn median(figures: &[f64]) -> f64 {
    sorted(figures)[figures.len() / 2]
}

/// So many per cent are no greater.
pub(crate) fn percentile(figures: &[f64], per_cent: usize) -> f64 {
    sorted(figures)[(figures.len() - 1) * per_cent / 100]
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

impl Table {
    /// What the rounds brought, with an aim for the ratio.
    pub(crate) fn ratio(&mut self, what: &str, unit: &'static str, rounds: &Rounds, aim: Aim, note: impl Into<String>) {
        let ratios: Vec<f64> = rounds.ours.iter().zip(&rounds.limit).map(|(ours, limit)| ours / limit).collect();
        let ratios = sorted(&ratios);
        let ratio = median(&ratios);
        self.0.push(Row {
            what: what.to_owned(),
            ours: median(&rounds.ours),
            limit: Some(median(&rounds.limit)),
            unit,
            ratio: Some([ratio, ratios[0], ratios[ratios.len() - 1]]),
            aim,
            met: aim.is_met_by(ratio),
            note: note.into(),
        });
    }

    /// What the rounds brought, with an aim for the difference.
    pub(crate) fn difference(&mut self, what: &str, unit: &'static str, rounds: &Rounds, aim: Aim) {
        let more: Vec<f64> = rounds.ours.iter().zip(&rounds.limit).map(|(ours, limit)| ours - limit).collect();
        let note = format!("{} against {}", short(median(&rounds.ours)), short(median(&rounds.limit)));
        self.figure(what, unit, median(&more), aim, note);
    }

    /// One figure, with an aim for itself.
    pub(crate) fn figure(&mut self, what: &str, unit: &'static str, ours: f64, aim: Aim, note: impl Into<String>) {
        let (what, note) = (what.to_owned(), note.into());
        self.0.push(Row { what, ours, limit: None, unit, ratio: None, aim, met: aim.is_met_by(ours), note });
    }

    #[expect(clippy::print_stdout, reason = "a benchmark prints its table")]
    pub(crate) fn print(&self) {
        println!();
        println!(
            "Medians of {ROUNDS} rounds, ours and the limit in turns; the ratio is the median of the rounds' own."
        );
        println!();
        println!(
            "{:<44} {:>10} {:>10} {:<13} {:>6} {:<14} {:<8} {:<9} ",
            "", "ours", "limit", "", "ratio", "(min..max)", "aim", ""
        );
        for row in &self.0 {
            let limit = row.limit.map_or(String::new(), short);
            let (ratio, range) = match row.ratio {
                Some([ratio, min, max]) => (format!("{ratio:.2}"), format!("({min:.2}..{max:.2})")),
                None => (String::new(), String::new()),
            };
            let verdict = match row.aim {
                Aim::None => "",
                _ if row.met => "met",
                _ => "below aim",
            };
            println!(
                "{:<44} {:>10} {:>10} {:<13} {:>6} {:<14} {:<8} {:<9} {}",
                row.what,
                short(row.ours),
                limit,
                row.unit,
                ratio,
                range,
                row.aim.to_string(),
                verdict,
                row.note
            );
        }
    }
}

/// Three digits that count.
fn short(figure: f64) -> String {
    match figure.abs() {
        f if f >= 1e6 => format!("{:.2} M", figure / 1e6),
        f if f >= 1e4 => format!("{:.0} k", figure / 1e3),
        f if f >= 100.0 => format!("{figure:.0}"),
        f if f >= 10.0 => format!("{figure:.1}"),
        _ => format!("{figure:.2}"),
    }
}
