//! The update itself: what changed between two builds, and the code image that
//! a stopped process receives.

mod assemble;
mod build;
mod closure;
mod compare;
mod control;
pub mod debug;
mod edited;
mod error;
mod fingerprint;
mod kept;
mod link;
mod own;
mod reduce;
mod resolve;
mod rest;
mod source_text;
mod transform;
pub(crate) mod unit;
pub(crate) mod version;
mod warnings;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use crate::binary::Address;
pub use crate::binary::FunctionName;
use crate::confree::UseTable;
use crate::equivalence::Touches;
use crate::state::convert::Conversion;
use crate::state::{Gap, Plan};
pub use build::{Built, Statistics, Update, build};
pub use control::{Selection, build_broken, build_control};
pub use error::PatchError;
pub use own::Own;
pub use rest::Rest;
pub use transform::{Compile, Transformer};
pub use version::{Build, ObjectUnit};

/// Bytes of NOPs that the compiler leaves at the entry of every function
/// (`-fpatchable-function-entry=16,0`). Bytes 0–4 hold the counting call from
/// exec on; bytes 5–9 receive the jump to the new version at the update.
pub const ENTRY_PAD: u64 = 16;

/// Where in the entry pad the jump to the new version is written.
pub const REDIRECT_OFFSET: u64 = 5;

/// First address of the patch image in the process; the linker script places
/// the image here, within reach of a 32-bit displacement from the old text.
pub const IMAGE_BASE: Address = Address(0x4000_0000);

/// Why a function is part of the patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// Its object code differs.
    ObjectCode,
    /// Its code is the same, but it concretely uses a changed type, prototype or
    /// global, its own prototype included.
    UsesChanged,
    /// Its code is the same, but it refers to a data object that moves.
    RefersToMoved,
    /// Its code is the same, but its parameters have other names: their meaning may
    /// have changed.
    RenamedParameters,
    /// Its code is the same, but it refers to a function whose old entry keeps the
    /// old version.
    RefersToKept,
    /// The control arm replaces it by an identical copy.
    Control,
}

impl Reason {
    /// Whether old and new code differ. A function that is rebuilt only for what it uses
    /// has the same code in both versions: its old frame does what a new one would.
    #[must_use]
    pub const fn means_other_code(self) -> bool {
        !matches!(self, Self::UsesChanged)
    }
}

/// A function of the old version that the update replaces.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Redirect {
    /// The function.
    pub function: FunctionName,
    /// Entry in the old program.
    pub old: Address,
    /// Size in bytes in the old program, entry pad included.
    pub old_size: u64,
    /// Entry in the patch image, entry pad included.
    pub new: Address,
    /// Size in bytes in the patch image.
    pub new_size: u64,
    /// Why it is replaced.
    pub reason: Reason,
    /// Whether return or parameter types differ between the versions, or, where the
    /// old entry is kept, the meaning of parameters.
    pub prototype_changed: bool,
    /// Whether the old entry gets no jump: old callers and pointers keep the old
    /// version, and only new code calls the new one.
    #[serde(default)]
    pub kept: bool,
}

/// A function of the old version that the new version no longer has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Deleted {
    /// The function.
    pub function: FunctionName,
    /// Entry in the old program.
    pub old: Address,
    /// Size in bytes.
    pub old_size: u64,
}

/// A function of both versions whose source text differs. Its object code may be
/// the same, so that it need not be among the redirected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditedFunction {
    /// The function.
    pub function: FunctionName,
    /// Entry in the old program.
    pub old: Address,
    /// Size in bytes.
    pub old_size: u64,
}

/// A function that only the new version has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Added {
    /// The function.
    pub function: FunctionName,
    /// Entry in the patch image.
    pub new: Address,
    /// Size in bytes.
    pub new_size: u64,
}

/// What happens to one data object at the update.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum DataAction {
    /// A new object; the image holds its initial bytes.
    Add {
        /// Name, with the function for function-local statics (`f.counter`).
        name: String,
        /// Place in the image.
        new: Address,
        /// Size in bytes.
        size: u64,
    },
    /// Only the initialiser differs: the object keeps its place, and its bytes
    /// are replaced if they still equal the old initialiser. Where it holds records with
    /// one layout for both versions only the new version's members are: gaps of removed
    /// ones are still the old frames'.
    Reinitialise {
        /// Name of the object.
        name: String,
        /// Place in the old program.
        old: Address,
        /// Size in bytes.
        size: u64,
        /// Initial bytes in the old program.
        old_initial: Vec<u8>,
        /// Where the image keeps the new initial bytes.
        new: Address,
        /// Members of the new version, where it holds records with a common layout.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        members: Option<Conversion>,
    },
    /// The object changes size or type and moves into the image: live bytes that
    /// still equal the old initialiser become the new one, others are converted
    /// member by member, or copied up to the smaller size.
    Carry {
        /// Name of the object.
        name: String,
        /// Place in the old program.
        old: Address,
        /// Size in bytes in the old program.
        old_size: u64,
        /// Initial bytes in the old program.
        old_initial: Vec<u8>,
        /// Place in the image.
        new: Address,
        /// Size in bytes in the image.
        new_size: u64,
        /// How its value is converted, where both types are known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        conversion: Option<Conversion>,
    },
    /// A read-only object that changed: new code uses the image's copy.
    Renew {
        /// Name of the object.
        name: String,
        /// Place in the old program.
        old: Address,
        /// Size in bytes in the old program; 0 in runs that did not record it.
        #[serde(default)]
        old_size: u64,
        /// Place in the image.
        new: Address,
        /// Size in bytes in the image.
        size: u64,
    },
}

/// A library function that new code uses and the old program did not: a word in
/// the image to be filled with the function's address in the process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ImportSlot {
    /// Symbol name; the default version of it is meant.
    pub name: String,
    /// The eight-byte word in the image that receives the address.
    pub slot: Address,
}

/// Counts entries of one function of the image: the loader writes
/// `inc dword [counter]` into the function's entry pad.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NewEntry {
    /// The function.
    pub function: FunctionName,
    /// Its entry in the image.
    pub new: Address,
}

/// Something about the update that output comparison cannot show.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// Kind, one stable word or two with hyphens (`prototype-changed`,
    /// `deleted-in-table`, `only-called-at-start-up`, `never-returns`, …).
    pub kind: String,
    /// What is concerned: a function, a global.
    pub subject: String,
    /// What it means and what to do.
    pub message: String,
}

/// An update ready to be applied: the code image and what to do with it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Patch {
    /// Update pair, `<subject>-<old>-<new>[-variant]`.
    pub pair: String,
    /// Bytes to be mapped at [`IMAGE_BASE`], readable, writable, executable.
    #[serde(skip)]
    pub image: Vec<u8>,
    /// Functions replaced.
    pub redirects: Vec<Redirect>,
    /// Old code by its address, made of what is replaced and deleted once an engine asks
    /// for it: [`Patch::old_code`].
    #[serde(skip)]
    pub old_code: OnceLock<Vec<OldCode>>,
    /// Functions gone.
    pub deleted: Vec<Deleted>,
    /// Functions new.
    pub added: Vec<Added>,
    /// Functions of both versions whose source text differs, whatever became of
    /// their object code; none in runs that did not record it.
    #[serde(default)]
    pub edited: Option<Vec<EditedFunction>>,
    /// Data objects concerned.
    pub data: Vec<DataAction>,
    /// Library functions to resolve in the process.
    pub imports: Vec<ImportSlot>,
    /// `void kairos_transform(void)` of the pair's `transform.c`, if it has one.
    pub transformer: Option<Address>,
    /// Library functions that the transformer uses (for the `not-applied` rule).
    pub transformer_imports: Vec<String>,
    /// Names of records, enums and typedefs whose layout changed.
    pub changed_types: Vec<String>,
    /// Functions whose prototype changed.
    pub changed_prototypes: Vec<String>,
    /// What old functions use of what changes; none where it was not looked for.
    #[serde(default)]
    pub uses: Option<UseTable>,
    /// For each return address in a function that is replaced, whether what can
    /// follow is the same in the new version.
    #[serde(default)]
    pub rests: BTreeMap<Address, Rest>,
    /// Who touches the state that the update changes; none in runs that did not look.
    #[serde(default)]
    pub touches: Option<Touches>,
    /// What outputs cannot show.
    pub warnings: Vec<Warning>,
    /// How live state is found and converted; none where no record changed, and in
    /// records of runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<Plan>,
    /// What a person must write for live state; none in runs that did not look.
    #[serde(default)]
    pub gaps: Option<Vec<Gap>>,
}

/// Bytes behind the image that tell a transformer of converted instances.
const SCRATCH: u64 = 16 << 20;

/// Code of an old function that is not to run any more.
#[derive(Clone, Debug)]
pub struct OldCode {
    /// Where it lies.
    pub range: Range<Address>,
    /// Whether the function is gone.
    pub deleted: bool,
}

impl Patch {
    /// The old code at an address, if that is replaced by other code or gone.
    #[must_use]
    pub fn old_code(&self, address: Address) -> Option<&OldCode> {
        let all = self.old_code.get_or_init(|| {
            let code = |old: Address, size, deleted| OldCode {
                range: old..old.plus(size),
                deleted,
            };
            let redirects = self.redirects.iter();
            let replaced = redirects.filter(|function| function.reason.means_other_code());
            let mut all: Vec<_> = replaced
                .map(|function| code(function.old, function.old_size, false))
                .collect();
            let gone = self.deleted.iter();
            all.extend(gone.map(|function| code(function.old, function.old_size, true)));
            all.sort_by_key(|code| code.range.start);
            all
        });
        let behind = all.partition_point(|code| code.range.start <= address);
        let code = all.get(behind.checked_sub(1)?)?;
        code.range.contains(&address).then_some(code)
    }

    /// Room that the image needs in a process, in whole pages, and what it needs
    /// behind it.
    #[must_use]
    pub fn room(&self) -> u64 {
        let (base, length) = self.scratch();
        base.since(IMAGE_BASE) + length
    }

    /// The place behind the image where a transformer is told of instances, and its
    /// length; 0 where none is.
    #[must_use]
    pub fn scratch(&self) -> (Address, u64) {
        const PAGE: u64 = 4096;
        let image = (self.image.len() as u64).next_multiple_of(PAGE);
        let tells = self
            .state
            .as_ref()
            .is_some_and(|plan| plan.records.iter().any(|record| record.table.is_some()));
        (IMAGE_BASE.plus(image), if tells { SCRATCH } else { 0 })
    }
}
