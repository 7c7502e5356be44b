//! Text in columns.

use std::fmt::Write as _;

use crate::task::Status;
use crate::visible;

/// Rows of cells as lines; the last column is not padded. Cells are escaped first, so that their width is right.
pub(super) fn lines(rows: &[Vec<String>]) -> Vec<String> {
    let shown = |row: &Vec<String>| row.iter().map(|cell| visible::escaped(cell).into_owned()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "{cell:width$}  ");
        }
        line.truncate(line.trim_end().len());
        line
    };
    rows.iter().map(line).collect()
}

/// The colour of a status.
pub(super) fn style(status: Status) -> anstyle::Style {
    use anstyle::AnsiColor::{Cyan, Green, Red, Yellow};
    match status {
        Status::Completed => Green.on_default(),
        Status::Failed => Red.on_default(),
        Status::Cancelled => Yellow.on_default(),
        Status::Running => Cyan.on_default(),
        Status::Held | Status::Delayed | Status::Queued => anstyle::Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["ID", "TASK"], ["ü1", "import"], ["12345", ""]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lines(&rows), ["ID     TASK", "ü1     import", "12345"]);
        let rows = [["a\r\n", "b"], ["", "c"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(lines(&rows), ["a\\r\\n  b", "       c"]);
    }
}
