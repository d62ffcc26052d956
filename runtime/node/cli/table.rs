//! Columns for people.

use super::{Failure, Out};

/// Rows of text, printed in columns that are as wide as they must be.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    /// Which of them a person should look at.
    marked: Vec<bool>,
}

impl Table {
    /// A table with a head.
    pub(crate) fn new<const N: usize>(head: [&str; N]) -> Self {
        Self { rows: vec![head.map(str::to_owned).to_vec()], marked: vec![false] }
    }

    pub(crate) fn row<const N: usize>(&mut self, row: [String; N]) {
        self.marked_row(false, row);
    }

    /// A row that stands out on a terminal, if it is marked.
    pub(crate) fn marked_row<const N: usize>(&mut self, is_marked: bool, row: [String; N]) {
        self.rows.push(row.to_vec());
        self.marked.push(is_marked);
    }

    /// Prints it; nothing at all if it has no rows.
    pub(crate) fn print(&self, out: &mut Out) -> Result<(), Failure> {
        if self.rows.len() > 1 {
            for (line, is_marked) in self.lines().into_iter().zip(&self.marked) {
                let line = if *is_marked { out.marked(&line) } else { line };
                out.line(line)?;
            }
        }
        Ok(())
    }

    fn lines(&self) -> Vec<String> {
        let width = |n: usize| {
            self.rows.iter().filter_map(|row| row.get(n)).map(|cell| cell.chars().count()).max()
        };
        let line = |row: &Vec<String>| {
            let cells = row
                .iter()
                .enumerate()
                .map(|(n, cell)| format!("{cell:width$}", width = width(n).unwrap_or_default()));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// Bytes in the unit that keeps them short: `512 B`, `3.4 MiB`.
pub(crate) fn bytes(n: u64) -> String {
    let mut scaled = n as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1024.0 {
            let places = usize::from(unit != "B" && scaled < 100.0);
            return format!("{scaled:.places$} {unit}");
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

/// Seconds in their two greatest units: `45s`, `2h 5m`.
pub(crate) fn seconds(n: u64) -> String {
    match (n / 86_400, n / 3_600 % 24, n / 60 % 60, n % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m {seconds}s"),
        (0, hours, minutes, _) => format!("{hours}h {minutes}m"),
        (days, hours, _, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let mut table = Table::new(["NAME", "N"]);
        table.row(["é".to_owned(), "10".to_owned()]);
        table.row(["longer".to_owned(), String::new()]);
        assert_eq!(table.lines(), ["NAME    N", "é       10", "longer"]);
    }

    #[test]
    fn quantities_are_short() {
        assert_eq!(bytes(512), "512 B");
        assert_eq!(bytes(3 << 20 | 1 << 19), "3.5 MiB");
        assert_eq!(bytes(500 << 30), "500 GiB");
        assert_eq!(bytes(2 << 40), "2.0 TiB");
        assert_eq!(seconds(45), "45s");
        assert_eq!(seconds(7_500), "2h 5m");
        assert_eq!(seconds(90_000), "1d 1h");
    }
}
