//! Formats of tables.

use comfy_table::{
    Attribute, Cell as ShownCell, CellAlignment, ContentArrangement, LineStyle, TableStyle,
};

use crate::analysis::Table;
use crate::analysis::table::Cell;

/// One format.
pub trait Exporter {
    /// The table as text in this format.
    ///
    /// # Errors
    /// The table has rows of different lengths.
    fn export(&self, table: &Table) -> Result<String, csv::Error>;
}

/// Comma-separated values with a header line; an unknown value is empty.
pub struct Csv;

impl Exporter for Csv {
    fn export(&self, table: &Table) -> Result<String, csv::Error> {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(&table.header)?;
        for row in &table.rows {
            writer.write_record(row.iter().map(Cell::as_str))?;
        }
        let bytes = writer
            .into_inner()
            .map_err(|error| csv::Error::from(error.into_error()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A Markdown table with its title above and its notes below, its columns padded
/// so that the source can be read as well.
pub struct Markdown;

impl Exporter for Markdown {
    fn export(&self, table: &Table) -> Result<String, csv::Error> {
        let escape = |text: &str| text.replace('|', "\\|").replace('\n', " ");
        let cells: Vec<Vec<String>> =
            std::iter::once(table.header.iter().map(|name| escape(name)).collect())
                .chain(
                    table
                        .rows
                        .iter()
                        .map(|row| row.iter().map(|cell| escape(cell.as_str())).collect()),
                )
                .collect();
        let widths: Vec<usize> = (0..table.header.len())
            .map(|column| {
                let lengths = cells.iter().filter_map(|row| row.get(column));
                lengths
                    .map(|cell| cell.chars().count())
                    .max()
                    .unwrap_or(0)
                    .max(3)
            })
            .collect();
        let numeric: Vec<bool> = (0..widths.len())
            .map(|column| table.is_numeric(column))
            .collect();
        let mut text = format!("{}\n\n", table.title);
        for (place, row) in cells.iter().enumerate() {
            for ((cell, width), numeric) in row.iter().zip(&widths).zip(&numeric) {
                let cell = if *numeric {
                    format!("{cell:>width$}")
                } else {
                    format!("{cell:<width$}")
                };
                text.extend(["| ", &cell, " "]);
            }
            text.push_str("|\n");
            if place == 0 {
                for (width, numeric) in widths.iter().zip(&numeric) {
                    let end = if *numeric { ":" } else { "-" };
                    text.extend(["|", &"-".repeat(width + 1), end]);
                }
                text.push_str("|\n");
            }
        }
        for note in &table.notes {
            text.extend(["\n", note, "\n"]);
        }
        Ok(text)
    }
}

const STYLE: TableStyle = TableStyle::new().header_separator(LineStyle::new('─', '─', '─', '─'));

/// A table for a terminal, wrapped to its width.
pub struct Terminal;

impl Exporter for Terminal {
    fn export(&self, table: &Table) -> Result<String, csv::Error> {
        let mut shown = comfy_table::Table::new();
        shown
            .load_style(STYLE)
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_header(
                table
                    .header
                    .iter()
                    .map(|name| ShownCell::new(name).add_attribute(Attribute::Bold)),
            )
            .add_rows(
                table
                    .rows
                    .iter()
                    .map(|row| row.iter().map(|cell| cell.as_str().to_owned())),
            );
        for (index, column) in shown.column_iter_mut().enumerate() {
            if table.is_numeric(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = format!("{}\n{shown}\n", table.title);
        for note in &table.notes {
            text.extend([note, "\n"]);
        }
        Ok(text)
    }
}
