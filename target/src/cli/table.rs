//! Columns for people: as wide as they must be, two blanks apart, numbers to the right.

/// A table that is being filled.
pub struct Table {
    rows: Vec<Vec<String>>,
    right: &'static [usize],
}

impl Table {
    /// A table with these headings; the columns numbered in `right` hold numbers.
    pub fn new(headings: &[&str], right: &'static [usize]) -> Table {
        Table { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()], right }
    }

    /// One more row.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, nothing if there is no row.
    pub fn text(&self) -> String {
        if self.rows.len() < 2 {
            return String::new();
        }
        let columns = self.rows[0].len();
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let cell = |column: usize, text: &str| match self.right.contains(&column) {
            true => format!("{text:>0$}", widths[column]),
            false => format!("{text:<0$}", widths[column]),
        };
        let line = |row: &Vec<String>| {
            let cells: Vec<_> = row.iter().enumerate().map(|(column, text)| cell(column, text)).collect();
            format!("{}\n", cells.join("  ").trim_end())
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_numbers_stand_to_the_right() {
        let mut table = Table::new(&["NAME", "SIZE"], &[1]);
        table.row(vec!["größe".into(), "1".into()]);
        table.row(vec!["b".into(), "1000".into()]);
        assert_eq!(table.text(), "NAME   SIZE\ngröße     1\nb      1000\n");
        assert_eq!(Table::new(&["NAME"], &[]).text(), "");
    }
}
