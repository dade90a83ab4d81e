//! The texts that a new subject begins with.

use std::fmt::Write as _;

use super::{Origin, Recipe, Source};

/// Begins a value that a person must write; manifests and scripts that still have
/// one are refused there.
pub(crate) const FILL_IN: &str = "fill in:";

/// The first workload.
pub(super) const FIRST: &str = "\
# One client session, played to both versions and then once for each update
# point. Every exchange is an action and the replies that are awaited; a pattern
# only frames a reply, what is right is what the unpatched versions answer.
# All directives are in docs/sessions.md.
about fill in: what the client does, in one line
specification backward-compatible

exchange connect
open c main

exchange request
send c fill in: a request that enters code which the update changes
await c *

exchange end
close c
";

/// The probe.
pub(super) const PROBE: &str = "\
# Played after each workload, before the server is stopped: does it still serve a
# new client?
about a new client is served
specification backward-compatible

exchange connect
open p main

exchange request
send p fill in: a harmless request
await p *

exchange end
close p
";

/// `subject.toml`.
pub(super) fn manifest(name: &str, sources: &[&Source], recipe: &Recipe) -> String {
    let mut text = format!(
        "# Begun by `kairos subjects new`. Write what is marked \"{FILL_IN}\"; until then\n\
         # the manifest is refused at that place. All keys are in docs/manifests.md.\n\
         name = {}\nabout = \"{FILL_IN} what the server is, in one line\"\n",
        quoted(name)
    );
    for source in sources {
        version(&mut text, source);
    }
    build(&mut text, recipe);
    text.push_str(REST);
    text
}

fn version(text: &mut String, source: &Source) {
    let _ = write!(text, "\n[[version]]\nlabel = {}\n", quoted(&source.label));
    match &source.origin {
        Origin::Folder => {
            let _ = writeln!(text, "folder = {}", quoted(&source.label));
        }
        Origin::Archive { file, sha256 } => {
            let package = file.split_once('_').map_or_else(
                || format!("{FILL_IN} the Debian source package"),
                |(package, _)| package.to_owned(),
            );
            let _ = writeln!(
                text,
                "# The archive is looked for in the folders of KAIROS_ARCHIVES, then through apt.\n\
                 archive = {{ file = {}, sha256 = \"{sha256}\", package = {} }}",
                quoted(file),
                quoted(&package)
            );
        }
    }
}

fn build(text: &mut String, recipe: &Recipe) {
    let list = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
    let _ = writeln!(
        text,
        "\n[build]\n# Guessed from {}. Each line runs with `sh -e` in a copy of the sources; $CC\n\
         # adds Kairos's flags, so the recipe passes on CC and need not pass CFLAGS. The\n\
         # program must not be stripped.",
        recipe.found
    );
    let packages = recipe.packages.iter().map(|package| quoted(package));
    let _ = writeln!(text, "debian_packages = [{}]", list(&mut { packages }));
    let steps = if recipe.steps.is_empty() {
        vec![format!("{FILL_IN} shell lines that build the program")]
    } else {
        recipe.steps.clone()
    };
    let _ = writeln!(
        text,
        "steps = [{}]",
        list(&mut steps.iter().map(|step| quoted(step)))
    );
    match recipe.programs.split_first() {
        Some((first, others)) => {
            if !others.is_empty() {
                let _ = writeln!(text, "# The tree also makes: {}.", others.join(", "));
            }
            let _ = writeln!(text, "program = {}", quoted(first));
        }
        None => {
            let _ = writeln!(
                text,
                "program = \"{FILL_IN} the executable, relative to the source tree\""
            );
        }
    }
}

const REST: &str = r#"
[run]
# {program} is the executable, {run} a fresh folder for each run, {port} the port
# below. The server must stay in the foreground.
command = ["{program}", "fill in: arguments, such as -p {port} -l {run}/server.log"]
# 0 stands for a number that you choose; every run has a network of its own.
ports = { main = 0 } # fill in: the port that the server listens on
identity = "user" # or "root", if it insists
ready = { listening = "main" } # or { output = "regex on a line of its output" }
stop = "SIGTERM" # how it is asked to end
# A configuration file, written before each start:
# [[run.file]]
# path = "server.conf"
# text = """
# port {port}
# """

# The process that Kairos starts. Servers that fork have a [[role]] for each kind of
# child: name, parent, and forked_in for the function that forks.
[[role]]
name = "server"
first = true

# Where a developer would allow updates: an entry of a function that is the first
# call in each turn of a main loop. Without it the policy `manual` allows nothing.
# [[manual]]
# role = "server"
# loop = "main"
# entry = "next_request"
# why = "between two requests nothing is in flight"

# Text that differs between equal runs, such as dates:
# [[volatile]]
# pattern = 'started .*'
# replace = 'started DATE'
# why = "start time"

# Compared line by line, exchange by exchange; paths are relative to {run}.
# [[log]]
# path = "server.log"
[[log]]
path = "stdout"

[state]
files = [] # compared after the stop, such as ["data/**"]

[workloads]
study = ["first"]
probe = "probe"
"#;

/// `pair.toml`.
pub(super) fn pair(subject: &str, old: &str, new: &str) -> String {
    format!(
        "subject = {}\nold = {}\nnew = {}\n\
         # transformer = \"transform.c\" # if live state must be filled or converted\n\
         # workloads = [\"first\"]       # absent: all of the subject's\n\
         # notes = \"what the update does, and what you expect\"\n",
        quoted(subject),
        quoted(old),
        quoted(new)
    )
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}
