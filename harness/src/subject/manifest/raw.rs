//! The manifest as written, with the place of every value that is checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

pub(crate) type Text = Spanned<String>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub name: Text,
    pub about: String,
    #[serde(default)]
    pub except_named: Vec<Text>,
    #[serde(default)]
    pub version: Vec<Spanned<Version>>,
    pub build: Build,
    pub run: Run,
    #[serde(default)]
    pub profile: Vec<Profile>,
    #[serde(default)]
    pub role: Vec<Spanned<Role>>,
    #[serde(default)]
    pub manual: Vec<Spanned<Manual>>,
    #[serde(default)]
    pub volatile: Vec<Volatile>,
    #[serde(default)]
    pub log: Vec<Log>,
    pub state: Option<State>,
    #[serde(default)]
    pub array: Vec<Array>,
    #[serde(default)]
    pub cast: Vec<Cast>,
    #[serde(default)]
    pub union: Vec<Union>,
    pub workloads: Workloads,
}

/// What a manifest says about live state.
pub(in crate::subject) struct Rules {
    pub array: Vec<Array>,
    pub cast: Vec<Cast>,
    pub union: Vec<Union>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Array {
    pub of: Text,
    pub length: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cast {
    pub of: Text,
    pub to: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Union {
    pub of: Text,
    pub when: Text,
    pub is: Spanned<Vec<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Renamed {
    pub record: Text,
    pub old: Text,
    pub new: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Version {
    pub label: Text,
    #[serde(default)]
    pub about: String,
    pub archive: Option<Archive>,
    pub queue: Option<Spanned<Queue>>,
    pub folder: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Archive {
    pub file: Text,
    pub sha256: Text,
    pub package: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queue {
    pub file: Text,
    pub sha256: Text,
    pub package: Text,
    pub upto: Option<String>,
    #[serde(default)]
    pub without: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    #[serde(default)]
    pub debian_packages: Vec<String>,
    pub steps: Spanned<Vec<Text>>,
    pub program: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    pub command: Spanned<Vec<Text>>,
    #[serde(default)]
    pub ports: BTreeMap<String, Spanned<u16>>,
    pub identity: Identity,
    pub ready: Ready,
    pub stop: Text,
    #[serde(default)]
    pub environment: BTreeMap<String, Text>,
    #[serde(default)]
    pub folder: Vec<Folder>,
    #[serde(default)]
    pub file: Vec<File>,
    #[serde(default)]
    pub user: Vec<User>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Profile {
    pub name: Text,
    pub about: String,
    pub command: Option<Spanned<Vec<Text>>>,
    #[serde(default)]
    pub environment: BTreeMap<String, Text>,
    #[serde(default)]
    pub folder: Vec<Folder>,
    #[serde(default)]
    pub file: Vec<File>,
    #[serde(default)]
    pub user: Vec<User>,
    #[serde(default)]
    pub role: Vec<Spanned<Role>>,
    pub probe: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub name: Text,
    pub password: Text,
    pub home: Option<Text>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Identity {
    User,
    Root,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ready {
    Listening(Text),
    Output(Text),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Folder {
    pub path: Text,
    pub mode: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    pub path: Text,
    pub text: Option<Text>,
    pub source: Option<Text>,
    pub mode: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Role {
    pub name: Text,
    #[serde(default)]
    pub first: bool,
    pub parent: Option<Text>,
    pub forked_in: Option<Text>,
    #[serde(default)]
    pub threads: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manual {
    pub role: Text,
    #[serde(rename = "loop")]
    pub looping: Text,
    pub entry: Text,
    pub why: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volatile {
    pub pattern: Text,
    pub replace: String,
    pub why: Text,
    #[serde(default)]
    pub functions: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    pub path: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    pub files: Vec<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workloads {
    pub study: Spanned<Vec<Text>>,
    pub probe: Option<Text>,
}
