//! The one list of compiler flags that every version is built with.
//!
//! Kairos replaces functions one by one, so a function's code must depend on
//! its own source alone: no inlining, no cloning, no facts about callees. Each
//! function gets its own section (so that it can be compared and linked alone)
//! and a pad of 16 bytes at its entry (for the jump to the new version and for
//! the counter). The list goes after the recipe's own arguments, so it wins.

use std::path::Path;

/// Changes whenever builds made before must not be used any more.
pub const REVISION: u32 = 1;

/// Where the source tree seems to lie, in debug information and `__FILE__`.
pub const MAPPED_TREE: &str = "/src";

/// The moment at which every build seems to happen: 1 January 2020, UTC.
pub const SOURCE_DATE_EPOCH: &str = "1577836800";

/// Flags that a compiler must know.
pub const REQUIRED: &[&str] = &[
    "-O1",
    "-g",
    // Switches would differ in the search paths that a recipe passes.
    "-gno-record-gcc-switches",
    "-fno-inline",
    "-fno-optimize-sibling-calls",
    "-fno-ipa-cp",
    "-fno-ipa-sra",
    "-fno-ipa-icf",
    "-fno-partial-inlining",
    "-fno-omit-frame-pointer",
    "-ffunction-sections",
    "-fdata-sections",
    "-fno-common",
    "-fpatchable-function-entry=16,0",
    // Debian's default, made explicit: RIP-relative code links anywhere within
    // 2 GB of the old text. The program itself is linked with -no-pie.
    "-fPIE",
    // A moved line is not a change.
    "-Wno-builtin-macro-redefined",
    "-D__LINE__=0",
    "-D__DATE__=\"Jan  1 2020\"",
    "-D__TIME__=\"00:00:00\"",
    "-D__TIMESTAMP__=\"Wed Jan  1 00:00:00 2020\"",
    // gcc has no name for its warning about __LINE__.
    "-Wno-error",
];

/// Flags that older compilers lack; each is used if the compiler knows it.
pub const OPTIONAL: &[(&str, &str)] = &[
    (
        "-flive-patching=inline-clone",
        "callers may rely on facts about the old callee (ipa-modref, ipa-pure-const, ipa-reference)",
    ),
    (
        "-fcf-protection=none",
        "functions begin with endbr64 where the processor's default asks for it",
    ),
    (
        "-mno-direct-extern-access",
        "new code may refer to library data through copy relocations",
    ),
];

/// The flag that hides where `tree` lies.
#[must_use]
pub fn map_tree(tree: &Path) -> String {
    format!("-ffile-prefix-map={}={MAPPED_TREE}", tree.display())
}
