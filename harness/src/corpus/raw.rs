//! `case.toml` as written, with the place of every value that is checked.

use crate::mechanism::{Layout, Prototypes};
use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

use crate::subject::manifest::raw::{
    File, Folder, Identity, Log, Manual, Ready, Role, State, Text, User, Volatile,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub about: Text,
    pub cause: Text,
    #[serde(default)]
    pub subject: Subject,
    #[serde(default)]
    pub variant: Vec<Variant>,
    #[serde(default)]
    pub predict: Vec<Spanned<Predict>>,
    #[serde(default)]
    pub mistaken: Vec<Mistaken>,
}

/// What of a subject differs from the defaults.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subject {
    #[serde(default)]
    pub except_named: Vec<Text>,
    pub build: Option<Build>,
    #[serde(default)]
    pub run: Run,
    pub role: Option<Vec<Spanned<Role>>>,
    #[serde(default)]
    pub manual: Vec<Spanned<Manual>>,
    #[serde(default)]
    pub volatile: Vec<Volatile>,
    #[serde(default)]
    pub log: Vec<Log>,
    pub state: Option<State>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Build {
    pub steps: Spanned<Vec<Text>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    pub command: Option<Spanned<Vec<Text>>>,
    pub ports: Option<BTreeMap<String, Spanned<u16>>>,
    pub identity: Option<Identity>,
    pub ready: Option<Ready>,
    pub stop: Option<Text>,
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
pub(super) struct Variant {
    pub name: Text,
    pub transformer: Option<Text>,
    #[serde(default)]
    pub layout: Layout,
    #[serde(default)]
    pub prototypes: Prototypes,
    pub scope: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Predict {
    pub variant: Option<Text>,
    pub role: Option<Text>,
    pub thread: Option<u32>,
    pub function: Option<Text>,
    pub caller: Option<Text>,
    pub exchange: Option<Spanned<toml::Value>>,
    pub index: Option<u32>,
    pub verdict: Text,
    pub cause: Option<String>,
    pub diverges: Option<Spanned<toml::Value>>,
    pub allowed: Spanned<Vec<Text>>,
    pub why: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mistaken {
    pub predicted: Text,
    pub observed: Text,
    pub reason: Text,
}
