//! Checks `[[array]]`, `[[cast]]` and `[[union]]`: what types do not say about live
//! state.

use toml::Spanned;

use super::check::Checked;
use super::raw;
use crate::state::rules::{ArrayRule, CastRule, Length, Rules, UnionRule};
use crate::subject::place::Text;

/// The rules of a manifest; those of a subject may name what some versions lack.
pub(in crate::subject) fn rules(
    raw: raw::Rules,
    optional: bool,
    place: &Text<'_>,
) -> Checked<Rules> {
    let mut rules = Rules::default();
    for rule in raw.array {
        let length = Length::parse(rule.length.get_ref()).map_err(|why| {
            place.error(
                rule.length.span(),
                format!("this is no length: {why}"),
                "write \"null\", or numbers and names joined by +, -, * and <<, such as \
                 \"1 << power\"",
            )
        })?;
        rules.arrays.push(ArrayRule {
            of: path(rule.of, place)?,
            length,
            optional,
        });
    }
    for rule in raw.cast {
        let is_record = rule.to.get_ref().chars().all(is_of_type) && !rule.to.get_ref().is_empty();
        if !is_record {
            return Err(place.error(
                rule.to.span(),
                format!("'{}' cannot name a record", rule.to.get_ref()),
                "write the type of what it points to, such as \"struct client\", without a star",
            ));
        }
        rules.casts.push(CastRule {
            of: path(rule.of, place)?,
            to: rule.to.into_inner(),
            optional,
        });
    }
    for rule in raw.union {
        if rule.is.get_ref().is_empty() {
            return Err(place.error(
                rule.is.span(),
                "the member never holds",
                "list the values under which it does",
            ));
        }
        rules.unions.push(UnionRule {
            of: path(rule.of, place)?,
            when: rule.when.into_inner(),
            is: rule.is.into_inner(),
            optional,
        });
    }
    Ok(rules)
}

fn is_of_type(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_' || letter == ' '
}

/// `struct table.buckets`, or the name of a variable.
fn path(of: raw::Text, place: &Text<'_>) -> Checked<String> {
    let text: &String = of.get_ref();
    if text.is_empty() || !text.chars().all(|c| is_of_type(c) || c == '.') {
        return Err(place.error(
            of.span(),
            format!("'{text}' cannot name a member or a variable"),
            "write the record and its member, such as \"struct table.buckets\", or a variable",
        ));
    }
    Ok(Spanned::into_inner(of))
}
