//! A recorded compilation taken apart: how to preprocess the unit, and how to
//! compile what comes out.

use std::path::Path;

use super::wrapper::words;

/// What gcc calls C that is preprocessed.
const PREPROCESSED: &str = "cpp-output";

/// Options that concern files written beside the object.
fn is_output(option: &str) -> bool {
    matches!(
        option,
        "-c" | "-o" | "-MD" | "-MMD" | "-MP" | "-MF" | "-MT" | "-MQ" | "-MG"
    ) || option.starts_with("-Wp,-M")
        || option.starts_with("-MF")
}

/// Options of the preprocessor.
fn is_preprocessing(option: &str) -> bool {
    [
        "-D",
        "-U",
        "-I",
        "-i",
        "-A",
        "-nostdinc",
        "-Xpreprocessor",
        "-Wp,",
        "-M",
    ]
    .iter()
    .any(|prefix| option.starts_with(prefix))
}

/// Arguments that preprocess the unit: `-E` and an output are still to be added.
pub(crate) fn preprocess(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for word in words(arguments) {
        if !is_output(word.option) {
            word.push_to(&mut kept);
        }
    }
    kept
}

/// The file with preprocessed text that the command compiles, if it is such a one.
pub(crate) fn preprocessed_input(arguments: &[String]) -> Option<&str> {
    let words = words(arguments);
    let language = words.iter().rfind(|word| word.option == "-x")?.value?;
    let input = words.iter().find(|word| word.is_input())?;
    (language == PREPROCESSED).then_some(input.option)
}

/// Arguments that preprocess the unit as part of a build: what is written beside
/// the object, for `make`, is still written. The text goes to standard output.
pub(crate) fn preprocess_in_build(arguments: &[String], object: &str) -> Vec<String> {
    let mut kept = Vec::new();
    let (mut depends, mut file, mut target) = (false, false, false);
    for word in words(arguments) {
        depends |= matches!(word.option, "-MD" | "-MMD");
        file |= word.option.starts_with("-MF");
        target |= matches!(word.option, "-MT" | "-MQ");
        if !matches!(word.option, "-c" | "-o") {
            word.push_to(&mut kept);
        }
    }
    if depends && !file {
        let beside = Path::new(object).with_extension("d");
        kept.extend(["-MF".to_owned(), beside.to_string_lossy().into_owned()]);
    }
    if depends && !target {
        kept.extend(["-MT".to_owned(), object.to_owned()]);
    }
    kept.push("-E".to_owned());
    kept
}

/// Arguments that compile preprocessed text as the whole command would: the input
/// and `-o` are still to be added.
pub(crate) fn compile_in_build(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for word in words(arguments) {
        let own = !word.is_input()
            && !is_output(word.option)
            && !is_preprocessing(word.option)
            && word.option != "-x";
        if own {
            word.push_to(&mut kept);
        }
    }
    kept.extend(["-fpreprocessed", "-x", PREPROCESSED, "-c"].map(str::to_owned));
    kept
}

/// As [`compile_in_build`], without warnings and debug information.
pub(crate) fn compile(arguments: &[String]) -> Vec<String> {
    let mut kept = compile_in_build(arguments);
    kept.retain(|argument| !argument.starts_with("-g"));
    kept.splice(0..0, ["-w", "-g0"].map(str::to_owned));
    kept
}

#[cfg(test)]
mod tests {
    use super::{compile, preprocess};

    fn strings(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_compilation_is_taken_apart() {
        let whole = strings("-DX=1 -I inc -O2 -MD -MF d.d -c -o a.o a.c -O1 -g -fPIE");
        assert_eq!(
            preprocess(&whole).join(" "),
            "-DX=1 -I inc -O2 a.c -O1 -g -fPIE"
        );
        assert_eq!(
            compile(&whole).join(" "),
            "-w -g0 -O2 -O1 -fPIE -fpreprocessed -x cpp-output -c"
        );
    }
}
