//! `patches.csv`: what each update changes.

use super::table::{Cell, Column, Table};
use crate::patch::{DataAction, Reason};
use crate::study::store::{Division, PairRecord};

/// What one pair's patch changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatchRow {
    /// The pair.
    pub pair: String,
    /// How it stands to state transformation.
    pub division: Division,
    /// Functions whose object code differs.
    pub changed: usize,
    /// Functions rebuilt because they refer to a data object that moves.
    pub rebuilt: usize,
    /// Functions of both versions whose source text differs, where recorded.
    pub edited: Option<usize>,
    /// Functions that only the new version has.
    pub added: usize,
    /// Functions that only the old version has.
    pub deleted: usize,
    /// New data objects.
    pub data_added: usize,
    /// Data objects of which only the initialiser differs.
    pub data_reinitialised: usize,
    /// Data objects that move, taking their value along.
    pub data_carried: usize,
    /// Read-only data objects that changed.
    pub data_renewed: usize,
    /// Changed types.
    pub changed_types: usize,
    /// Changed prototypes.
    pub changed_prototypes: usize,
    /// Warnings.
    pub warnings: usize,
    /// What a person must write for live state, where looked for.
    pub gaps: Option<usize>,
}

const COLUMNS: [Column<PatchRow>; 15] = [
    ("pair", |row| Cell::text(&row.pair)),
    ("division", |row| Cell::text(row.division.name())),
    ("changed", |row| Cell::number(row.changed)),
    ("rebuilt", |row| Cell::number(row.rebuilt)),
    ("edited", |row| Cell::optional(row.edited)),
    ("added", |row| Cell::number(row.added)),
    ("deleted", |row| Cell::number(row.deleted)),
    ("data_added", |row| Cell::number(row.data_added)),
    ("data_reinitialised", |row| {
        Cell::number(row.data_reinitialised)
    }),
    ("data_carried", |row| Cell::number(row.data_carried)),
    ("data_renewed", |row| Cell::number(row.data_renewed)),
    ("changed_types", |row| Cell::number(row.changed_types)),
    ("changed_prototypes", |row| {
        Cell::number(row.changed_prototypes)
    }),
    ("warnings", |row| Cell::number(row.warnings)),
    ("gaps", |row| Cell::optional(row.gaps)),
];

/// `patches.csv` as a table.
#[must_use]
pub fn table(rows: &[PatchRow]) -> Table {
    let title = "What each update changes: functions, data objects, types, prototypes.";
    Table::of("patches", title, &COLUMNS, rows)
}

/// Counts what each patch changes. The control arm's identical copies count as
/// changed, as they do for policies.
#[must_use]
pub fn patches(pairs: &[PairRecord]) -> Vec<PatchRow> {
    pairs
        .iter()
        .map(|pair| {
            let patch = &pair.patch;
            let data = |wanted: fn(&DataAction) -> bool| {
                patch.data.iter().filter(|action| wanted(action)).count()
            };
            let rebuilt = patch
                .redirects
                .iter()
                .filter(|redirect| {
                    matches!(
                        redirect.reason,
                        Reason::RefersToMoved | Reason::RefersToKept
                    )
                })
                .count();
            PatchRow {
                pair: pair.pair.clone(),
                division: pair.division(),
                changed: patch.redirects.len() - rebuilt,
                rebuilt,
                edited: patch.edited.as_ref().map(Vec::len),
                added: patch.added.len(),
                deleted: patch.deleted.len(),
                data_added: data(|action| matches!(action, DataAction::Add { .. })),
                data_reinitialised: data(|action| {
                    matches!(action, DataAction::Reinitialise { .. })
                }),
                data_carried: data(|action| matches!(action, DataAction::Carry { .. })),
                data_renewed: data(|action| matches!(action, DataAction::Renew { .. })),
                changed_types: patch.changed_types.len(),
                changed_prototypes: patch.changed_prototypes.len(),
                warnings: patch.warnings.len(),
                gaps: patch.gaps.as_ref().map(Vec::len),
            }
        })
        .collect()
}
