//! How plots look: sizes for one column of a paper, and colours.

use plotters::style::RGBColor;

use crate::analysis::rows::Outcome;
use crate::verdict::Verdict;

/// Width of a plot on paper: one column.
pub const WIDTH_MM: f64 = 85.0;
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
        'm' | 'w' => 0.80,
        _ => 0.55,
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
/// a wine red and tints added. Neighbouring failures also differ in lightness,
/// darker meaning worse, so that print in grey keeps them apart.
#[must_use]
pub const fn colour(outcome: Outcome) -> RGBColor {
    match outcome {
        Outcome::Flaky => RGBColor(0x8c, 0x8c, 0x8c),
        Outcome::Verdict(verdict) => match verdict {
            Verdict::New => RGBColor(0x00, 0x72, 0xb2),
            Verdict::Late => RGBColor(0x56, 0xb4, 0xe9),
            Verdict::Inert => RGBColor(0xc3, 0xe2, 0xf5),
            Verdict::NotReached => RGBColor(0xd6, 0xd6, 0xd6),
            Verdict::NotApplied => RGBColor(0xb4, 0xb4, 0xb4),
            Verdict::Mixed => RGBColor(0xf0, 0xe4, 0x42),
            Verdict::State => RGBColor(0xe6, 0x9f, 0x00),
            Verdict::Stall => RGBColor(0xcc, 0x79, 0xa7),
            Verdict::Wrong => RGBColor(0xd5, 0x5e, 0x00),
            Verdict::Exit => RGBColor(0x80, 0x1c, 0x4a),
            Verdict::Crash => RGBColor(0x00, 0x00, 0x00),
        },
    }
}
