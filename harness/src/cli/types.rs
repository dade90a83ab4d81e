//! `kairos patch PAIR --types`: changed types, prototypes and globals, old and
//! new layouts side by side.

use std::fmt::Write as _;

use serde::Serialize;

use kairos::change::layout::{self, Place, Row};
use kairos::change::{
    ChangedEnum, ChangedGlobal, ChangedPrototype, ChangedRecord, ChangedTypedef, Changes,
    DeletedFunction, HowGlobal, RenamedParameters,
};

/// A changed record with its rows, for JSON.
#[derive(Serialize)]
struct Record<'a> {
    #[serde(flatten)]
    record: &'a ChangedRecord,
    rows: Vec<Row>,
}

/// What `--types --json` prints.
#[derive(Serialize)]
pub struct Json<'a> {
    records: Vec<Record<'a>>,
    enums: &'a [ChangedEnum],
    typedefs: &'a [ChangedTypedef],
    prototypes: &'a [ChangedPrototype],
    renamed: &'a [RenamedParameters],
    deleted: &'a [DeletedFunction],
    globals: &'a [ChangedGlobal],
}

/// The changes as JSON holds them.
#[must_use]
pub fn json(changes: &Changes) -> Json<'_> {
    let record = |record| Record {
        record,
        rows: layout::rows(record),
    };
    Json {
        records: changes.records.iter().map(record).collect(),
        enums: &changes.enums,
        typedefs: &changes.typedefs,
        prototypes: &changes.prototypes,
        renamed: &changes.renamed,
        deleted: &changes.deleted,
        globals: &changes.globals,
    }
}

/// The changes for people.
#[must_use]
pub fn human(changes: &Changes) -> String {
    let mut text = String::new();
    for record in &changes.records {
        _ = writeln!(text, "{}  ({})", layout::headline(record), record.key.file);
        table(&mut text, &layout::rows(record));
    }
    for changed in &changes.enums {
        _ = writeln!(text, "{}  ({})", changed.name, changed.key.file);
        for enumerator in &changed.enumerators {
            let new = match enumerator.new {
                Some(value) => value.to_string(),
                None => "gone".to_owned(),
            };
            _ = writeln!(text, "  {}: {} → {new}", enumerator.name, enumerator.old);
        }
    }
    section(&mut text, "typedefs", &changes.typedefs, |typedef| {
        format!("{}: {} → {}", typedef.name, typedef.old, typedef.new)
    });
    section(&mut text, "prototypes", &changes.prototypes, |changed| {
        let function = &changed.function;
        if changed.old == changed.new {
            let records = changed.by_value.join(", ");
            format!("{function}: {}, where {records} goes by value", changed.old)
        } else {
            format!("{function}: {} → {}", changed.old, changed.new)
        }
    });
    section(
        &mut text,
        "names of parameters, which count only where old entries are kept",
        &changes.renamed,
        |renamed| format!("{}: {} → {}", renamed.function, renamed.old, renamed.new),
    );
    section(&mut text, "functions gone", &changes.deleted, |deleted| {
        deleted.function.to_string()
    });
    section(&mut text, "globals", &changes.globals, |global| {
        let what = match &global.how {
            HowGlobal::Deleted => "gone".to_owned(),
            HowGlobal::Type { old, new } => format!("{old} → {new}"),
            HowGlobal::Embeds(records) => format!("holds {}", records.join(", ")),
        };
        format!("{} ({}): {what}", global.name, global.file)
    });
    if text.is_empty() {
        text.push_str("no type, prototype or global differs\n");
    }
    text
}

fn section<T>(text: &mut String, title: &str, items: &[T], line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    _ = writeln!(text, "{title} ({})", items.len());
    for item in items {
        _ = writeln!(text, "  {}", line(item));
    }
}

fn table(text: &mut String, rows: &[Row]) {
    let mut lines: Vec<[String; 8]> =
        vec![["", "old at", "size", "type", "new at", "size", "type", ""].map(str::to_owned)];
    for row in rows {
        let [old_at, old_size, old_kind] = cells(row.old.as_ref());
        let [new_at, new_size, new_kind] = cells(row.new.as_ref());
        lines.push([
            row.name.clone(),
            old_at,
            old_size,
            old_kind,
            new_at,
            new_size,
            new_kind,
            row.fate.name().to_owned(),
        ]);
    }
    let width = |column: usize| {
        let cells = lines.iter().map(|line| line[column].chars().count());
        cells.max().unwrap_or(0)
    };
    let widths: [usize; 8] = std::array::from_fn(width);
    for line in &lines {
        let mut whole = String::new();
        for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
            if matches!(column, 1 | 2 | 4 | 5) {
                _ = write!(whole, "  {cell:>width$}");
            } else {
                _ = write!(whole, "  {cell:<width$}");
            }
        }
        _ = writeln!(text, "{}", whole.trim_end());
    }
}

/// Offset, size and type; dots where the version lacks the member.
fn cells(place: Option<&Place>) -> [String; 3] {
    match place {
        None => ["·", "·", "·"].map(str::to_owned),
        Some(Place {
            offset,
            bits: Some((at, bits)),
            kind,
            ..
        }) => [
            format!("{offset}.{}", at.saturating_sub(offset * 8)),
            format!("{bits}b"),
            kind.clone(),
        ],
        Some(place) => [
            place.offset.to_string(),
            place.size.to_string(),
            place.kind.clone(),
        ],
    }
}
