//! Drawing primitives that all figures share: boxes, lines, dots and lettering, on a
//! sheet of paper of a given width.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::style;

/// A sheet that is drawn on. Coordinates are drawing units from its upper left
/// corner, [`style::UNITS_PER_MM`] to a millimetre.
pub struct Canvas<'a, 'b> {
    area: &'a DrawingArea<SVGBackend<'b>, Shift>,
}

/// An axis of shares, from nothing to everything.
#[derive(Clone, Copy, Debug)]
pub struct PercentAxis {
    left: i32,
    right: i32,
}

impl PercentAxis {
    /// Where a share between 0 and 1 lies.
    #[must_use]
    pub fn at(&self, share: f64) -> i32 {
        self.left + whole(f64::from(self.right - self.left) * share)
    }
}

/// How a text looks and which of its sides is at its place.
#[derive(Clone, Copy)]
pub struct Lettering {
    /// Which side is at its place.
    pub side: HPos,
    /// Colour.
    pub colour: RGBColor,
    /// Whether it is a heading.
    pub bold: bool,
}

/// A label to the right of its place.
pub const LABEL: Lettering = Lettering {
    side: HPos::Left,
    colour: style::INK,
    bold: false,
};
/// A label to the left of its place, as before a row.
pub const ROW_LABEL: Lettering = Lettering {
    side: HPos::Right,
    ..LABEL
};
/// A heading.
pub const HEADING: Lettering = Lettering {
    bold: true,
    ..LABEL
};
/// A remark.
pub const REMARK: Lettering = Lettering {
    colour: style::FAINT_INK,
    ..LABEL
};
/// A number at the end of a row.
pub const NUMBER: Lettering = Lettering {
    side: HPos::Right,
    ..REMARK
};
/// A label of an axis.
pub const TICK: Lettering = Lettering {
    side: HPos::Center,
    ..REMARK
};

/// Draws a sheet of that size as SVG.
///
/// # Errors
/// What `content` or the drawing library says.
pub fn draw(
    width_mm: f64,
    height: i32,
    content: impl FnOnce(&Canvas<'_, '_>) -> Result<(), String>,
) -> Result<String, String> {
    let width = whole(width_mm * style::UNITS_PER_MM);
    let unsigned = |size: i32| u32::try_from(size).unwrap_or(1);
    let mut svg = String::new();
    {
        let size = (unsigned(width), unsigned(height));
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        area.fill(&style::PAPER)
            .map_err(|error| error.to_string())?;
        content(&Canvas { area: &area })?;
        area.present().map_err(|error| error.to_string())?;
    }
    Ok(on_paper(&svg, width, height))
}

/// Gives the SVG its size on paper; the drawing library knows pixels only.
fn on_paper(svg: &str, width: i32, height: i32) -> String {
    let pixels = format!("width=\"{width}\" height=\"{height}\"");
    let millimetres = format!(
        "width=\"{}mm\" height=\"{}mm\"",
        f64::from(width) / style::UNITS_PER_MM,
        f64::from(height) / style::UNITS_PER_MM
    );
    svg.replacen(&pixels, &millimetres, 1)
}

impl Canvas<'_, '_> {
    /// A filled box without a border.
    ///
    /// # Errors
    /// The drawing library's, as text; so below.
    pub fn fill(&self, from: (i32, i32), to: (i32, i32), colour: RGBColor) -> Result<(), String> {
        self.draw(&Rectangle::new([from, to], colour.filled()))
    }

    /// A line of that width through all `places`.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn line(&self, places: &[(i32, i32)], width: u32, colour: RGBColor) -> Result<(), String> {
        let style = colour.stroke_width(width);
        self.draw(&PathElement::new(places.to_vec(), style))
    }

    /// The same with gaps: `dashes` are the lengths of line and gap in turn; none
    /// for a line without gaps.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn dashed(
        &self,
        places: &[(i32, i32)],
        width: u32,
        colour: RGBColor,
        dashes: &[f64],
    ) -> Result<(), String> {
        for dash in dash(places, dashes) {
            self.line(&dash, width, colour)?;
        }
        Ok(())
    }

    /// A dot, filled or as a ring.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn dot(&self, centre: (i32, i32), radius: i32, style: ShapeStyle) -> Result<(), String> {
        self.draw(&Circle::new(centre, radius, style))
    }

    /// A closed shape.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn shape(&self, corners: &[(i32, i32)], colour: RGBColor) -> Result<(), String> {
        self.draw(&Polygon::new(corners.to_vec(), colour.filled()))
    }

    /// A text whose middle line is at the height of its place.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn text(&self, text: &str, place: (i32, i32), look: Lettering) -> Result<(), String> {
        let font = font(look);
        let style = TextStyle::from(font)
            .color(&look.colour)
            .pos(Pos::new(look.side, VPos::Center));
        self.draw(&Text::new(text.to_owned(), place, style))
    }

    /// A text that reads upwards and ends at its place.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn text_upwards(
        &self,
        text: &str,
        place: (i32, i32),
        look: Lettering,
    ) -> Result<(), String> {
        let font = font(look).transform(FontTransform::Rotate270);
        let style = TextStyle::from(font)
            .color(&look.colour)
            .pos(Pos::new(HPos::Right, VPos::Center));
        self.draw(&Text::new(text.to_owned(), place, style))
    }

    /// A grid of percentages between the two `sides`, from the upper to the lower of
    /// the two `heights`, with labels and `title` below.
    ///
    /// # Errors
    /// See [`Self::fill`].
    pub fn percent_axis(
        &self,
        (left, right): (i32, i32),
        (top, bottom): (i32, i32),
        title: &str,
    ) -> Result<PercentAxis, String> {
        let axis = PercentAxis { left, right };
        for quarter in 0..=4 {
            let x = axis.at(f64::from(quarter) / 4.0);
            self.line(&[(x, top), (x, bottom)], 2, style::GRID)?;
            self.text(&format!("{} %", quarter * 25), (x, bottom + 36), TICK)?;
        }
        self.text(title, (i32::midpoint(left, right), bottom + 92), TICK)?;
        Ok(axis)
    }

    fn draw<E>(&self, element: &E) -> Result<(), String>
    where
        for<'e> &'e E: plotters::element::PointCollection<'e, (i32, i32)>,
        E: for<'d> plotters::element::Drawable<SVGBackend<'d>>,
    {
        self.area.draw(element).map_err(|error| error.to_string())
    }
}

fn font(look: Lettering) -> FontDesc<'static> {
    let (points, weight) = if look.bold {
        (style::HEADING_POINTS, FontStyle::Bold)
    } else {
        (style::LABEL_POINTS, FontStyle::Normal)
    };
    FontDesc::new(
        FontFamily::Name(style::FONT),
        style::font_size(points),
        weight,
    )
}

/// Cuts a line into dashes.
fn dash(places: &[(i32, i32)], dashes: &[f64]) -> Vec<Vec<(i32, i32)>> {
    if dashes.iter().sum::<f64>() <= 0.0 {
        return vec![places.to_vec()];
    }
    let mut pieces = Vec::new();
    let mut lengths = dashes.iter().cycle();
    let (mut left, mut drawing) = (*lengths.next().unwrap_or(&1.0), true);
    let mut piece: Vec<(i32, i32)> = places.first().copied().into_iter().collect();
    for ends in places.windows(2) {
        let [from, to] = [ends[0], ends[1]].map(|(x, y)| (f64::from(x), f64::from(y)));
        let length = (to.0 - from.0).hypot(to.1 - from.1);
        let mut along = 0.0;
        while length - along > left {
            along += left;
            let share = along / length;
            let place = (
                whole(from.0 + (to.0 - from.0) * share),
                whole(from.1 + (to.1 - from.1) * share),
            );
            if drawing {
                piece.push(place);
                pieces.push(std::mem::take(&mut piece));
            } else {
                piece = vec![place];
            }
            drawing = !drawing;
            left = lengths.next().copied().unwrap_or(1.0).max(0.1);
        }
        left -= length - along;
        if drawing {
            piece.push(ends[1]);
        }
    }
    if drawing && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// Width of a label in drawing units, near enough to leave room for it.
#[must_use]
pub fn label_width(text: &str) -> i32 {
    whole(style::text_width(text, style::LABEL_POINTS))
}

/// The nearest whole coordinate.
#[must_use]
#[expect(
    clippy::cast_possible_truncation,
    reason = "a coordinate on the figure"
)]
pub fn whole(coordinate: f64) -> i32 {
    coordinate.round() as i32
}

/// A count with commas between thousands.
#[must_use]
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashes_follow_the_line_round_a_corner() {
        let line = [(0, 0), (10, 0), (10, 10)];
        assert_eq!(dash(&line, &[]), [line.to_vec()]);
        assert_eq!(
            dash(&line, &[6.0, 2.0]),
            [
                vec![(0, 0), (6, 0)],
                vec![(8, 0), (10, 0), (10, 4)],
                vec![(10, 6), (10, 10)],
            ]
        );
    }

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(
            [7, 1234, 1_234_567].map(thousands),
            ["7", "1,234", "1,234,567"]
        );
    }

    #[test]
    fn a_sheet_has_its_size_on_paper() {
        let svg = draw(85.0, 400, |canvas| canvas.text("a < b", (10, 20), LABEL)).unwrap();
        assert!(svg.contains("width=\"85mm\" height=\"20mm\""), "{svg}");
        assert!(svg.contains("a &lt; b"), "{svg}");
    }
}
