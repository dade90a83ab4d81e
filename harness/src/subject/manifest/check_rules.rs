//! Checks `[[array]]`, `[[cast]]`, `[[union]]` and `[[renamed]]`: what types do not say
//! about live state.

use toml::Spanned;

use super::check::Checked;
use super::raw;
use crate::state::renamed::RenameRule;
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
        let mend = "write the type of what it points to, such as \"struct client\", without a star";
        is_record(&rule.to, mend, place)?;
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

/// Members that carry on under another name.
pub(in crate::subject) fn renamed(
    raw: Vec<raw::Renamed>,
    place: &Text<'_>,
) -> Checked<Vec<RenameRule>> {
    let mut rules: Vec<RenameRule> = Vec::new();
    for rule in raw {
        let mend = "write the record's type, such as \"struct entry\"";
        is_record(&rule.record, mend, place)?;
        for name in [&rule.old, &rule.new] {
            let text = name.get_ref();
            if text.is_empty() || !text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
                let wrong = format!("'{text}' cannot name a member");
                return Err(place.error(name.span(), wrong, "write the member's name alone"));
            }
        }
        let same = |known: &&RenameRule| {
            known.record == *rule.record.get_ref()
                && (known.old == *rule.old.get_ref() || known.new == *rule.new.get_ref())
        };
        if rules.iter().any(|known| same(&known)) || rule.old.get_ref() == rule.new.get_ref() {
            return Err(place.error(
                rule.old.span(),
                "a member carries on as one member, and has another name",
                "say it of each member once",
            ));
        }
        rules.push(RenameRule {
            at: format!(
                "{}:{}",
                place.path.display(),
                place.line(rule.record.span().start)
            ),
            record: rule.record.into_inner(),
            old: rule.old.into_inner(),
            new: rule.new.into_inner(),
        });
    }
    Ok(rules)
}

fn is_record(name: &raw::Text, mend: &str, place: &Text<'_>) -> Checked<()> {
    let text = name.get_ref();
    if text.is_empty() || !text.chars().all(is_of_type) {
        let wrong = format!("'{text}' cannot name a record");
        return Err(place.error(name.span(), wrong, mend));
    }
    Ok(())
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
