//! Tables for LaTeX: floats of one column or of the page's width, with rules of the
//! package booktabs.

use std::fmt::Write as _;

use super::export::Exporter;
use crate::analysis::Table;
use crate::analysis::table::Cell;

/// LaTeX floats that a paper takes in by `\input`. A table that is too wide for the
/// page is split between columns, its first ones repeated, and one that is too long
/// between rows. Needs the packages `booktabs` and `array`.
pub struct Latex;

/// Width of a column of a paper, and of its page.
const COLUMN_MM: f64 = 85.0;
const PAGE_MM: f64 = 178.0;
/// Width of a character of `\scriptsize`, 7 pt, and the space between columns.
const LETTER_MM: f64 = 1.33;
const GAP_MM: f64 = 1.5;
/// Text that is wider than this wraps.
const WIDEST_TEXT_MM: f64 = 45.0;
/// A header is not broken to less than this.
const NARROWEST_LETTERS: usize = 8;
/// Lines of cells on one page.
const LINES: usize = 58;

/// One column as it is set.
struct Layout {
    /// The header's lines.
    header: Vec<String>,
    numeric: bool,
    width_mm: f64,
    /// Whether longer text wraps.
    wraps: bool,
}

impl Exporter for Latex {
    fn export(&self, table: &Table) -> Result<String, csv::Error> {
        let columns: Vec<Layout> = (0..table.header.len())
            .map(|index| layout(table, index))
            .collect();
        let keys = keys(&columns);
        let mut text = String::from("% Needs \\usepackage{booktabs,array}.\n");
        let mut floats = 0;
        for panel in panels(&columns, keys) {
            for rows in pages(&table.rows, &columns, &panel) {
                float(&mut text, table, &columns, &panel, rows, floats > 0);
                floats += 1;
            }
        }
        Ok(text)
    }
}

/// Leading columns that say what a row is about, at most three.
fn keys(columns: &[Layout]) -> usize {
    let leading = columns.iter().take_while(|column| !column.numeric).count();
    leading.clamp(1, 3).min(columns.len())
}

fn layout(table: &Table, index: usize) -> Layout {
    let cells = table.rows.iter().filter_map(|row| row.get(index));
    let longest = cells.map(|cell| letters(cell.as_str())).max().unwrap_or(0);
    let header = header_lines(table.header.get(index).map_or("", String::as_str), longest);
    let widest = header.iter().map(|line| line.chars().count()).max();
    let numeric = table.is_numeric(index);
    let wanted = as_mm(longest.max(widest.unwrap_or(0)));
    let wraps = !numeric && wanted > WIDEST_TEXT_MM;
    Layout {
        header,
        numeric,
        width_mm: if wraps { WIDEST_TEXT_MM } else { wanted },
        wraps,
    }
}

fn letters(text: &str) -> usize {
    text.chars().count()
}

fn as_mm(letters: usize) -> f64 {
    number(letters) * LETTER_MM
}

fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// A name over several lines, so that it is not much wider than its column's cells.
fn header_lines(name: &str, cells: usize) -> Vec<String> {
    // A percent sign stays with its number.
    let name = name.replace(" %", "\u{a0}%");
    let cells = cells.max(NARROWEST_LETTERS);
    let mut lines: Vec<String> = Vec::new();
    for piece in name.split_inclusive([' ', '_']) {
        match lines.last_mut() {
            Some(line) if letters(line) + letters(piece.trim_end()) <= cells => {
                line.push_str(piece);
            }
            _ => lines.push(piece.to_owned()),
        }
    }
    for line in &mut lines {
        line.truncate(line.trim_end().len());
    }
    lines
}

/// Columns of each float: the keys, and others up to the page's width. None is much
/// narrower than the others.
fn panels(columns: &[Layout], keys: usize) -> Vec<Vec<usize>> {
    let width = |index: usize| columns[index].width_mm + GAP_MM;
    let fewest = filled(columns, keys, PAGE_MM);
    let of_keys: f64 = (0..keys).map(width).sum();
    let others: f64 = (keys..columns.len()).map(width).sum();
    let widest = (keys..columns.len()).map(width).fold(0.0, f64::max);
    let even = of_keys + others / number(fewest.len()) + widest;
    let evenly = filled(columns, keys, even.min(PAGE_MM));
    if evenly.len() == fewest.len() {
        evenly
    } else {
        fewest
    }
}

/// Panels filled one after the other up to `limit`.
fn filled(columns: &[Layout], keys: usize, limit: f64) -> Vec<Vec<usize>> {
    let width = |index: usize| columns[index].width_mm + GAP_MM;
    let mut panels: Vec<Vec<usize>> = vec![(0..keys).collect()];
    let mut used: f64 = (0..keys).map(width).sum();
    for index in keys..columns.len() {
        if used + width(index) > limit && panels.last().is_some_and(|panel| panel.len() > keys) {
            panels.push((0..keys).collect());
            used = (0..keys).map(width).sum();
        }
        used += width(index);
        if let Some(panel) = panels.last_mut() {
            panel.push(index);
        }
    }
    panels
}

/// Rows of each float; a table without rows has one float all the same.
fn pages<'t>(rows: &'t [Vec<Cell>], columns: &[Layout], panel: &[usize]) -> Vec<&'t [Vec<Cell>]> {
    let lines = |row: &Vec<Cell>| {
        let wrapped = panel.iter().filter(|index| columns[**index].wraps);
        let of_cell = |index: &usize| {
            // What cannot break leaves lines half empty.
            let full = as_mm(row.get(*index).map_or(0, |cell| letters(cell.as_str())));
            let fits = |lines: &usize| full * 1.2 <= number(*lines) * columns[*index].width_mm;
            (1..LINES).find(fits).unwrap_or(LINES)
        };
        wrapped.map(of_cell).max().unwrap_or(1)
    };
    let all: usize = rows.iter().map(lines).sum();
    // No page much emptier than the others.
    let most = all.div_ceil(all.div_ceil(LINES).max(1));
    let (mut pages, mut begin, mut used) = (Vec::new(), 0, 0);
    for (index, row) in rows.iter().enumerate() {
        if used >= most || used + lines(row) > LINES && index > begin {
            pages.push(&rows[begin..index]);
            (begin, used) = (index, 0);
        }
        used += lines(row);
    }
    pages.push(&rows[begin..]);
    pages
}

fn float(
    text: &mut String,
    table: &Table,
    columns: &[Layout],
    panel: &[usize],
    rows: &[Vec<Cell>],
    continued: bool,
) {
    let width: f64 = panel
        .iter()
        .map(|index| columns[*index].width_mm + GAP_MM)
        .sum();
    let environment = if width <= COLUMN_MM {
        "table"
    } else {
        "table*"
    };
    let specification: String = panel
        .iter()
        .map(|index| match &columns[*index] {
            Layout { numeric: true, .. } => "r".to_owned(),
            Layout {
                wraps: true,
                width_mm,
                ..
            } => format!(">{{\\raggedright\\arraybackslash}}p{{{width_mm:.0}mm}}"),
            Layout { .. } => "l".to_owned(),
        })
        .collect();
    let title = prose(&table.title);
    let (title, label) = if continued {
        (format!("{title} (continued)"), String::new())
    } else {
        (title, format!("\\label{{tab:kairos-{}}}", table.name))
    };
    text.push_str("\n\\begin{");
    text.push_str(environment);
    text.push_str("}[tp]\n\\centering\\scriptsize\\setlength{\\tabcolsep}{2pt}\n");
    let _ = writeln!(text, "\\caption{{{title}}}{label}");
    let _ = writeln!(
        text,
        "\\begin{{tabular}}{{@{{}}{specification}@{{}}}}\n\\toprule"
    );
    let header = panel.iter().map(|index| header_cell(&columns[*index]));
    text.push_str(&header.collect::<Vec<_>>().join(" & "));
    text.push_str(" \\\\\n\\midrule\n");
    let mut before_totals = true;
    for (place, row) in rows.iter().enumerate() {
        let first = row.first().map_or("", Cell::as_str);
        if before_totals && first.starts_with("total") && place > 0 {
            text.push_str("\\addlinespace\n");
        }
        before_totals &= !first.starts_with("total");
        let cells = panel.iter().map(|index| {
            let cell = row.get(*index).map_or("", Cell::as_str);
            escape(cell, columns[*index].wraps)
        });
        text.push_str(&cells.collect::<Vec<_>>().join(" & "));
        text.push_str(" \\\\\n");
    }
    text.push_str("\\bottomrule\n\\end{tabular}\n");
    if !continued {
        for note in &table.notes {
            let note = prose(note);
            let _ = writeln!(
                text,
                "\\par\\smallskip\\parbox{{\\linewidth}}{{\\raggedright {note}}}"
            );
        }
    }
    let _ = writeln!(text, "\\end{{{environment}}}");
}

fn header_cell(column: &Layout) -> String {
    let lines: Vec<String> = column
        .header
        .iter()
        .map(|line| escape(line, false))
        .collect();
    if lines.len() <= 1 {
        return lines.concat();
    }
    let side = if column.numeric { "r" } else { "l" };
    format!("\\shortstack[{side}]{{{}}}", lines.join("\\\\"))
}

/// A sentence in which backquotes set names apart.
fn prose(text: &str) -> String {
    let parts = text.split('`').enumerate().map(|(place, part)| {
        if place % 2 == 1 {
            format!("\\texttt{{{}}}", escape(part, true))
        } else {
            escape(part, false)
        }
    });
    parts.collect()
}

/// Text so that LaTeX sets it as it is; where it wraps, long names may break.
fn escape(text: &str, wraps: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut before = ' ';
    for letter in text.chars() {
        match letter {
            '\\' => escaped.push_str("\\textbackslash{}"),
            '{' | '}' | '$' | '&' | '#' | '%' | '_' => escaped.extend(['\\', letter]),
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '<' => escaped.push_str("\\textless{}"),
            '>' => escaped.push_str("\\textgreater{}"),
            '|' => escaped.push_str("\\textbar{}"),
            '"' => escaped.push_str("\\textquotedbl{}"),
            '`' => escaped.push_str("\\textasciigrave{}"),
            '\'' => escaped.push_str("\\textquotesingle{}"),
            // After the end of a row these would be an option.
            '[' | '*' => escaped.extend(['{', letter, '}']),
            // Two of them would become one dash.
            '-' if before == '-' => escaped.push_str("{}-"),
            '–' => escaped.push_str("--"),
            '—' => escaped.push_str("---"),
            '…' => escaped.push_str("\\dots{}"),
            'µ' | 'μ' => escaped.push_str("\\textmu{}"),
            '×' => escaped.push_str("$\\times$"),
            '→' => escaped.push_str("$\\rightarrow$"),
            '≤' => escaped.push_str("$\\leq$"),
            '≥' => escaped.push_str("$\\geq$"),
            ' '..='~' => escaped.push(letter),
            _ if letter.is_whitespace() => escaped.push(' '),
            _ => {
                let _ = write!(escaped, "\\texttt{{U+{:04X}}}", u32::from(letter));
            }
        }
        if wraps && matches!(letter, '_' | '/' | ',' | '#' | '.' | '-') {
            escaped.push_str("\\allowbreak{}");
        }
        before = letter;
    }
    // A space before a percent sign must not let it slip to the next line.
    escaped.replace(" \\%", "\\,\\%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: usize, rows: usize) -> Table {
        let row = |row: usize| {
            std::iter::once(Cell::text(format!("pair_{row}")))
                .chain((1..columns).map(|column| Cell::number(row * column)))
                .collect()
        };
        Table {
            name: "study".to_owned(),
            title: "Points & `some_verdicts`, 100 %.".to_owned(),
            header: (0..columns)
                .map(|column| format!("column_{column} allows"))
                .collect(),
            rows: (0..rows).map(row).collect(),
            notes: vec!["A `note`.".to_owned()],
        }
    }

    #[test]
    fn a_small_table_fits_a_column() {
        let mut small = table(3, 2);
        small.rows[1][0] = Cell::text("total");
        small.rows[0][2] = Cell::Number("92.2 %".to_owned());
        insta::assert_snapshot!(Latex.export(&small).unwrap(), @r#"
% Needs \usepackage{booktabs,array}.

\begin{table}[tp]
\centering\scriptsize\setlength{\tabcolsep}{2pt}
\caption{Points \& \texttt{some\_\allowbreak{}verdicts}, 100\,\%.}\label{tab:kairos-study}
\begin{tabular}{@{}lrr@{}}
\toprule
\shortstack[l]{column\_0\\allows} & \shortstack[r]{column\_1\\allows} & \shortstack[r]{column\_2\\allows} \\
\midrule
pair\_0 & 0 & 92.2\,\% \\
\addlinespace
total & 1 & 2 \\
\bottomrule
\end{tabular}
\par\smallskip\parbox{\linewidth}{\raggedright A \texttt{note}.}
\end{table}
"#);
    }

    #[test]
    fn every_special_letter_is_escaped() {
        assert_eq!(
            escape(r#"\{}$&#%_~^<>|"`'[x]--é"#, false),
            r"\textbackslash{}\{\}\$\&\#\%\_\textasciitilde{}\textasciicircum{}\textless{}\textgreater{}\textbar{}\textquotedbl{}\textasciigrave{}\textquotesingle{}{[}x]-{}-\texttt{U+00E9}"
        );
        assert_eq!(escape("92 %", false), r"92\,\%");
        assert_eq!(escape("a_b", true), r"a\_\allowbreak{}b");
    }

    #[test]
    fn a_wide_table_repeats_its_keys_and_a_long_one_its_header() {
        let text = Latex.export(&table(40, 120)).unwrap();
        let count = |what: &str| text.matches(what).count();
        let floats = count("\\begin{table*}");
        assert!(floats >= 6, "{floats} floats");
        assert_eq!(count("\\end{table*}"), floats);
        assert_eq!(count("\\toprule"), floats);
        assert_eq!(count("(continued)"), floats - 1);
        assert_eq!(count("\\label{tab:kairos-study}"), 1);
        // Each row is once in each panel, under its key.
        assert_eq!(count("pair\\_17 &"), floats / 3);
        for line in text.lines().filter(|line| line.starts_with("pair")) {
            let cells = line.matches(" & ").count() + 1;
            assert!((2..=40).contains(&cells), "{line}");
        }
    }

    #[test]
    fn long_text_wraps_and_a_table_may_be_empty() {
        let mut wide = table(2, 1);
        wide.rows[0][0] = Cell::text("a_very_long_name ".repeat(9));
        let text = Latex.export(&wide).unwrap();
        assert!(text.contains("p{45mm}"), "{text}");
        let text = Latex.export(&table(2, 0)).unwrap();
        assert!(text.contains("\\midrule\n\\bottomrule"), "{text}");
    }
}
