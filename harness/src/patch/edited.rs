//! Which functions a programmer edited: those whose source text differs between
//! the versions, whatever became of their object code.

use std::collections::HashMap;
use std::path::Path;

use super::compare::Comparison;
use super::source_text::SourceText;
use super::unit::ItemKind;
use super::version::{ItemId, Version};
use super::{EditedFunction, Warning};
use crate::binary::dwarf::SourcePlace;

/// Functions of both versions whose text differs, and warnings about those whose
/// text could not be found: they count as edited. Each version comes with the
/// source tree that it was built in.
pub(super) fn find(
    (old, old_tree): (&Version, &Path),
    (new, new_tree): (&Version, &Path),
    comparison: &Comparison,
) -> (Vec<EditedFunction>, Vec<Warning>) {
    let mut before = Texts::new(old, old_tree);
    let mut after = Texts::new(new, new_tree);
    let (mut edited, mut warnings) = (Vec::new(), Vec::new());
    for (id, matched) in &comparison.items {
        let Some(old_id) = matched.old.filter(|_| new.kind(*id) == ItemKind::Function) else {
            continue;
        };
        let Some(address) = old.address(old_id) else {
            continue;
        };
        if before.is_in_place(old_id, &mut after, *id) {
            continue;
        }
        let (old_text, new_text) = (before.text(old_id), after.text(*id));
        if old_text.is_none() || new_text.is_none() {
            warnings.push(not_found(
                old,
                old_id,
                old_text.is_none(),
                new_text.is_none(),
            ));
        } else if old_text == new_text {
            continue;
        }
        edited.push(EditedFunction {
            function: old.function_name(old_id),
            old: address,
            old_size: old.section(old_id).size,
        });
    }
    (edited, warnings)
}

fn not_found(old: &Version, id: ItemId, in_old: bool, in_new: bool) -> Warning {
    let which = match (in_old, in_new) {
        (true, true) => "either version",
        (true, false) => "the old version",
        _ => "the new version",
    };
    let function = old.function_name(id);
    Warning {
        kind: "source-not-found".to_owned(),
        message: format!(
            "the text of {function} was not found in the sources of {which}: it counts as edited. \
             Only `activeness_edited` asks for it."
        ),
        subject: function.name,
    }
}

/// The source files of one version, read as they are asked for.
struct Texts<'a> {
    version: &'a Version,
    tree: &'a Path,
    files: HashMap<String, Option<SourceFile>>,
}

struct SourceFile {
    bytes: Vec<u8>,
    text: Option<SourceText>,
}

impl<'a> Texts<'a> {
    fn new(version: &'a Version, tree: &'a Path) -> Self {
        Self {
            version,
            tree,
            files: HashMap::new(),
        }
    }

    /// Name and place of a function as the debug information has them.
    fn declared(&self, id: ItemId) -> Option<(&'a str, &'a SourcePlace)> {
        let entry = self.version.address(id)?;
        let function = self.version.program.types().function_at(entry)?;
        Some((&function.function.name, function.declared.as_ref()?))
    }

    fn file(&mut self, name: &str) -> Option<&mut SourceFile> {
        if !self.files.contains_key(name) {
            // An absolute path stays what it is: a header outside of the tree.
            let bytes = std::fs::read(self.tree.join(name)).ok();
            let file = bytes.map(|bytes| SourceFile { bytes, text: None });
            self.files.insert(name.to_owned(), file);
        }
        self.files.get_mut(name)?.as_mut()
    }

    /// Whether both functions stand at the same place of equal files, so that
    /// there is nothing to compare.
    fn is_in_place(&mut self, id: ItemId, other: &mut Self, other_id: ItemId) -> bool {
        let (Some(here), Some(there)) = (self.declared(id), other.declared(other_id)) else {
            return false;
        };
        here == there
            && match (self.file(&here.1.file), other.file(&there.1.file)) {
                (Some(here), Some(there)) => here.bytes == there.bytes,
                _ => false,
            }
    }

    fn text(&mut self, id: ItemId) -> Option<Vec<u8>> {
        let (name, place) = self.declared(id)?;
        let file = self.file(&place.file)?;
        file.text
            .get_or_insert_with(|| SourceText::new(&file.bytes))
            .function(name, place.line, place.column)
    }
}
