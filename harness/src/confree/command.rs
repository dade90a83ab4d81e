//! A recorded compilation taken apart: how to preprocess the unit, and how to
//! compile what comes out.

use crate::subject::wrapper::words;

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
pub(super) fn preprocess(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for word in words(arguments) {
        if !is_output(word.option) {
            word.push_to(&mut kept);
        }
    }
    kept
}

/// Arguments that compile preprocessed text: the input and `-o` are still to be
/// added.
pub(super) fn compile(arguments: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    for word in words(arguments) {
        let own = !word.is_input()
            && !is_output(word.option)
            && !is_preprocessing(word.option)
            && word.option != "-x"
            && !word.option.starts_with("-g");
        if own {
            word.push_to(&mut kept);
        }
    }
    kept.extend(["-w", "-g0", "-fpreprocessed", "-x", "cpp-output", "-c"].map(str::to_owned));
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
            "-O2 -O1 -fPIE -w -g0 -fpreprocessed -x cpp-output -c"
        );
    }
}
