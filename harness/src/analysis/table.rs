//! Tables as data: a title, columns and cells, before any format.

/// A column of rows of type `R`: its name and its cell, in one place, so that
/// header and cells cannot drift apart.
pub type Column<R> = (&'static str, fn(&R) -> Cell);

/// One cell.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Words, aligned left.
    Text(String),
    /// A number, aligned right, as it is to be shown.
    Number(String),
    /// Nothing known.
    Empty,
}

impl Cell {
    /// A cell of words.
    pub fn text(text: impl ToString) -> Self {
        Self::Text(text.to_string())
    }

    /// A cell of a whole number.
    pub fn number(number: impl ToString) -> Self {
        Self::Number(number.to_string())
    }

    /// A cell of a weighted estimate: whole where it is, else with one decimal.
    #[must_use]
    pub fn estimate(value: f64) -> Self {
        Self::Number(estimate(value))
    }

    /// A number that may be unknown.
    pub fn optional(number: Option<impl ToString>) -> Self {
        number.map_or(Self::Empty, Self::number)
    }

    /// What the cell shows.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Number(text) => text,
            Self::Empty => "",
        }
    }
}

/// A weighted count for people: whole where it is whole, else with one decimal.
#[must_use]
pub fn estimate(value: f64) -> String {
    if (value - value.round()).abs() < 1e-6 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

/// A share between 0 and 1 as a percentage, with a decimal where it matters; only
/// what is nothing or everything shows as 0 or 100 %.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        0.0 | 100.0 => format!("{percent:.0} %"),
        ..0.1 => "< 0.1 %".to_owned(),
        99.9.. => "> 99.9 %".to_owned(),
        10.0..=90.0 => format!("{percent:.0} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// A table ready for any format.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    /// File name without extension.
    pub name: String,
    /// What it shows, one sentence.
    pub title: String,
    /// Names of the columns.
    pub header: Vec<String>,
    /// Cells, row by row.
    pub rows: Vec<Vec<Cell>>,
    /// Remarks to print below.
    pub notes: Vec<String>,
}

impl Table {
    /// Makes a table of `rows` by `columns`.
    pub fn of<'r, R: 'r>(
        name: &str,
        title: &str,
        columns: &[Column<R>],
        rows: impl IntoIterator<Item = &'r R>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            title: title.to_owned(),
            header: columns.iter().map(|(name, _)| (*name).to_owned()).collect(),
            rows: rows
                .into_iter()
                .map(|row| columns.iter().map(|(_, cell)| cell(row)).collect())
                .collect(),
            notes: Vec::new(),
        }
    }

    /// Whether column `index` holds numbers.
    #[must_use]
    pub fn is_numeric(&self, index: usize) -> bool {
        let mut cells = self
            .rows
            .iter()
            .filter_map(|row| row.get(index))
            .filter(|cell| !matches!(cell, Cell::Empty))
            .peekable();
        cells.peek().is_some() && cells.all(|cell| matches!(cell, Cell::Number(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_neither_to_nothing_nor_to_all() {
        let shown = [0.0, 0.0004, 0.0123, 0.456, 0.951, 0.9996, 1.0].map(percent);
        let expected = [
            "0 %", "< 0.1 %", "1.2 %", "46 %", "95.1 %", "> 99.9 %", "100 %",
        ];
        assert_eq!(shown, expected);
    }

    #[test]
    fn estimates_show_a_decimal_only_where_there_is_one() {
        assert_eq!([3.0, 3.25].map(estimate), ["3", "3.2"]);
    }
}
