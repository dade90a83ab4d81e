//! How plots look: sizes for a column of a paper or its page, lettering, and colours.

use plotters::style::RGBColor;

use crate::analysis::rows::Outcome;
use crate::verdict::Verdict;

/// Width of a plot on paper: one column.
pub const WIDTH_MM: f64 = 85.0;
/// Width of a plot over both columns of a page.
pub const WIDE_MM: f64 = 178.0;
/// Drawing units per millimetre; coordinates of the drawing library are whole numbers.
pub const UNITS_PER_MM: f64 = 20.0;
/// PNG pixels per drawing unit, for about 600 dots per inch.
pub const PNG_SCALE: f32 = 1.2;

/// Font families of the SVG; the PNG uses the first, which is embedded.
pub const FONT: &str = "DejaVu Sans Condensed, Helvetica, Arial, sans-serif";
/// Size of labels in points.
pub const LABEL_POINTS: f64 = 7.0;
/// Size of names of pairs in points.
pub const HEADING_POINTS: f64 = 7.0;

/// A font size for the drawing library, which divides sizes by 1.24 when it
/// writes SVG.
#[must_use]
pub fn font_size(points: f64) -> f64 {
    units(points) * 1.24
}

/// Printer's points in drawing units.
#[must_use]
pub fn units(points: f64) -> f64 {
    points * 25.4 / 72.0 * UNITS_PER_MM
}

/// Width of a text in drawing units, near enough for the gaps of a legend.
#[must_use]
pub fn text_width(text: &str, points: f64) -> f64 {
    let of_em = |letter: char| match letter {
        'i' | 'l' | 'j' | 't' | 'f' | 'r' | '-' | ' ' => 0.33,
        'm' | 'w' => 0.85,
        'A'..='Z' => 0.68,
        _ => 0.57,
    };
    text.chars().map(of_em).sum::<f64>() * units(points)
}

/// Text.
pub const INK: RGBColor = RGBColor(0x20, 0x20, 0x20);
/// Secondary text: axis and numbers.
pub const FAINT_INK: RGBColor = RGBColor(0x5a, 0x5a, 0x5a);
/// Lines of the grid.
pub const GRID: RGBColor = RGBColor(0xd9, 0xd9, 0xd9);
/// The trough of a bar without points.
pub const TROUGH: RGBColor = RGBColor(0xf4, 0xf4, 0xf4);
/// Where an exchange begins.
pub const MARK: RGBColor = RGBColor(0x9a, 0x9a, 0x9a);
/// A point that was not tested.
pub const UNTESTED: RGBColor = RGBColor(0xdb, 0xd3, 0xc4);
/// Where a policy allows every point, and where only some.
pub const ALLOWED: RGBColor = RGBColor(0x00, 0x9e, 0x73);
/// See [`ALLOWED`].
pub const PARTLY_ALLOWED: RGBColor = RGBColor(0x7a, 0xcc, 0xb4);
/// Between segments.
pub const PAPER: RGBColor = RGBColor(0xff, 0xff, 0xff);

/// Order of segments from left to right: what passed in blues, what is counted
/// apart in greys, then failures, the worst at the right edge.
pub const ORDER: [Outcome; 12] = [
    Outcome::Verdict(Verdict::New),
    Outcome::Verdict(Verdict::Late),
    Outcome::Verdict(Verdict::Inert),
    Outcome::Verdict(Verdict::NotReached),
    Outcome::Verdict(Verdict::NotApplied),
    Outcome::Flaky,
    Outcome::Verdict(Verdict::Mixed),
    Outcome::Verdict(Verdict::State),
    Outcome::Verdict(Verdict::Stall),
    Outcome::Verdict(Verdict::Wrong),
    Outcome::Verdict(Verdict::Exit),
    Outcome::Verdict(Verdict::Crash),
];

/// Colour of an outcome: Okabe and Ito's palette for colour-blind readers, with
/// a wine red and tints added. Neighbours also differ in lightness, among failures
/// darker meaning worse, so that print in grey keeps them apart.
#[must_use]
pub const fn colour(outcome: Outcome) -> RGBColor {
    match outcome {
        Outcome::Flaky => RGBColor(0x82, 0x82, 0x82),
        Outcome::Verdict(verdict) => match verdict {
            Verdict::New => RGBColor(0x00, 0x72, 0xb2),
            Verdict::Late => RGBColor(0x56, 0xb4, 0xe9),
            Verdict::Inert => RGBColor(0xc3, 0xe2, 0xf5),
            Verdict::NotReached => RGBColor(0xbe, 0xbe, 0xbe),
            Verdict::NotApplied => RGBColor(0xa0, 0xa0, 0xa0),
            Verdict::Mixed => RGBColor(0xf0, 0xe4, 0x42),
            Verdict::State => RGBColor(0xf2, 0xac, 0x18),
            Verdict::Stall => RGBColor(0xcc, 0x79, 0xa7),
            Verdict::Wrong => RGBColor(0xd5, 0x5e, 0x00),
            Verdict::Exit => RGBColor(0x80, 0x1c, 0x4a),
            Verdict::Crash => RGBColor(0x00, 0x00, 0x00),
        },
    }
}

/// How the curve of one policy is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CurveStyle {
    /// Colour.
    pub colour: RGBColor,
    /// Lengths of lines and gaps in drawing units; none for a line without gaps.
    pub dashes: &'static [f64],
    /// Width in drawing units. Earlier policies have wider lines, so that where
    /// curves coincide each can be seen.
    pub width: u32,
}

const CURVES: [CurveStyle; 9] = [
    curve(RGBColor(0xb4, 0xb4, 0xb4), &[], 18),
    curve(RGBColor(0x00, 0x72, 0xb2), &[], 13),
    curve(RGBColor(0xe6, 0x9f, 0x00), &[44.0, 14.0], 11),
    curve(RGBColor(0x56, 0xb4, 0xe9), &[16.0, 12.0], 10),
    curve(RGBColor(0xcc, 0x79, 0xa7), &[44.0, 12.0, 10.0, 12.0], 9),
    curve(RGBColor(0x00, 0x9e, 0x73), &[24.0, 20.0], 9),
    curve(RGBColor(0xd5, 0x5e, 0x00), &[60.0, 12.0], 8),
    curve(RGBColor(0x80, 0x1c, 0x4a), &[10.0, 14.0], 8),
    curve(RGBColor(0x00, 0x00, 0x00), &[], 7),
];

const fn curve(colour: RGBColor, dashes: &'static [f64], width: u32) -> CurveStyle {
    CurveStyle {
        colour,
        dashes,
        width,
    }
}

/// The curve of a policy, the same in every figure; those that no place is kept
/// for share the last but one.
#[must_use]
pub fn curve_of(policy: &str) -> CurveStyle {
    let place = match policy {
        "any" => 0,
        "activeness" => 1,
        "activeness_edited" => 2,
        "activeness_conservative" => 3,
        "activeness_except_named" => 4,
        "activeness_rest" => 5,
        "con_free" => 6,
        "manual" => 8,
        _ => 7,
    };
    CURVES[place]
}

/// A policy as figures name it. `AS` is how the field shortens activeness safety.
#[must_use]
pub fn policy_label(column: &str) -> String {
    match column.strip_prefix("activeness") {
        Some("") => "activeness (AS)".to_owned(),
        Some(form) => format!("AS{}", form.replace('_', " ")),
        None => column.replace("con_free", "con-free").replace('_', " "),
    }
}

/// Colours that tell subjects apart.
const SUBJECTS: [RGBColor; 5] = [
    RGBColor(0x00, 0x72, 0xb2),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// Colour of the subject at that place among all.
#[must_use]
pub const fn subject(place: usize) -> RGBColor {
    SUBJECTS[place % SUBJECTS.len()]
}

/// Colour of the mechanism at that place among all: those of subjects from the other
/// end, since a figure of one does not tell the other.
#[must_use]
pub const fn mechanism(place: usize) -> RGBColor {
    SUBJECTS[(place + 1) % SUBJECTS.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Policy, with_any};

    #[test]
    fn every_policy_has_a_curve_and_a_name_of_its_own() {
        let policies: Vec<&str> = with_any().map(Policy::column).collect();
        for (place, policy) in policies.iter().enumerate() {
            for other in &policies[..place] {
                assert_ne!(curve_of(policy), curve_of(other), "{policy} {other}");
                assert_ne!(policy_label(policy), policy_label(other));
            }
        }
        assert_eq!(policy_label("activeness_except_named"), "AS except named");
        assert_eq!(policy_label("con_free_field"), "con-free field");
    }

    /// Brightness as print in grey shows it (ITU-R BT.601).
    fn brightness(colour: RGBColor) -> f64 {
        let RGBColor(red, green, blue) = colour;
        0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue)
    }

    #[test]
    fn neighbours_differ_in_print_in_grey() {
        for pair in ORDER.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|outcome| brightness(colour(outcome)));
            assert!((a - b).abs() > 20.0, "{pair:?}: {a:.0} {b:.0}");
        }
    }
}
