//! Refuses a manifest in which `kairos subjects new` left something to a person.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::subject::error::ManifestError;
use crate::subject::place::Text;
use crate::subject::scaffold::FILL_IN;

/// Points at the first value that is still to be filled in.
pub(super) fn refuse(place: &Text<'_>) -> Result<(), ManifestError> {
    let Ok(table) = DeTable::parse(place.text) else {
        // Told as a syntax error elsewhere.
        return Ok(());
    };
    let mut found = None;
    for value in table.get_ref().values() {
        first(value, &mut found);
    }
    match found {
        None => Ok(()),
        Some(at) => Err(place.error(
            at..at,
            "this is still to be filled in",
            "write what the mark says; docs/manifests.md shows each key with an example",
        )),
    }
}

/// The earliest marked text within `value`, by its byte offset.
fn first(value: &Spanned<DeValue<'_>>, found: &mut Option<usize>) {
    match value.get_ref() {
        DeValue::String(text) if text.starts_with(FILL_IN) => {
            let at = value.span().start;
            *found = Some(found.map_or(at, |before| before.min(at)));
        }
        DeValue::Array(items) => items.iter().for_each(|item| first(item, found)),
        DeValue::Table(table) => table.values().for_each(|item| first(item, found)),
        _ => {}
    }
}
