//! Checks `[[profile]]`: other ways to run the program, each completed with what
//! `[run]` and the roles say.

use std::path::Path;

use super::check::{Checked, is_word, roles, workload_exists};
use super::check_run::{command, environment, files, folders, users};
use super::raw;
use super::{Profile, Role, Run};
use crate::subject::place::Text;

pub(super) fn profiles(
    raw: Vec<raw::Profile>,
    run: &Run,
    usual_roles: &[Role],
    folder: &Path,
    place: &Text<'_>,
) -> Checked<Vec<Profile>> {
    let mut profiles: Vec<Profile> = Vec::new();
    for profile in raw {
        let name = profile.name.get_ref();
        if name.is_empty() || !name.chars().all(is_word) {
            return Err(place.error(
                profile.name.span(),
                format!("'{name}' cannot name a profile"),
                "use letters, digits and underscores",
            ));
        }
        if profiles.iter().any(|known| known.name == *name) {
            return Err(place.error(
                profile.name.span(),
                format!("two profiles are named '{name}'"),
                "give each profile its own name",
            ));
        }
        if let Some(probe) = &profile.probe {
            workload_exists(probe, folder, place)?;
        }
        let mut run = run.clone();
        if let Some(words) = profile.command {
            run.command = command(words, &run.ports, place)?;
        }
        run.environment
            .extend(environment(profile.environment, &run.ports, place)?);
        let folders = folders(profile.folder, place)?;
        put(&mut run.folders, folders, |one, other| {
            one.path == other.path
        });
        let files = files(profile.file, &run.ports, folder, place)?;
        put(&mut run.files, files, |one, other| one.path == other.path);
        let users = users(profile.user, &run.ports, place)?;
        put(&mut run.users, users, |one, other| one.name == other.name);
        profiles.push(Profile {
            name: profile.name.into_inner(),
            about: profile.about,
            run,
            probe: profile.probe.map(toml::Spanned::into_inner),
            roles: if profile.role.is_empty() {
                usual_roles.to_vec()
            } else {
                roles(profile.role, place)?
            },
        });
    }
    Ok(profiles)
}

/// Puts each of `new` in the place of the same thing, or behind all others.
fn put<T>(all: &mut Vec<T>, new: Vec<T>, same: impl Fn(&T, &T) -> bool) {
    for item in new {
        match all.iter_mut().find(|known| same(known, &item)) {
            Some(place) => *place = item,
            None => all.push(item),
        }
    }
}
