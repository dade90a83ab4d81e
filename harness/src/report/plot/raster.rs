//! SVG to PNG with an embedded font, so that every machine draws the same picture.

use resvg::{tiny_skia, usvg};

use super::style;

/// Draws `svg` for print, on white.
///
/// # Errors
/// The SVG is not valid or too large; the text says which.
pub fn png(svg: &str) -> Result<Vec<u8>, String> {
    let mut options = usvg::Options::default();
    let fonts = options.fontdb_mut();
    fonts.load_font_data(dejavu::sans_condensed::regular().to_vec());
    fonts.load_font_data(dejavu::sans_condensed::bold().to_vec());
    fonts.set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| error.to_string())?;
    // The tree has the size on paper, in CSS pixels of 1/96 inch.
    let per_pixel = style::UNITS_PER_MM * 25.4 / 96.0;
    #[expect(clippy::cast_possible_truncation, reason = "a small constant")]
    let scale = style::PNG_SCALE * per_pixel as f32;
    let size = tree
        .size()
        .to_int_size()
        .scale_by(scale)
        .ok_or("its size is nothing or too large")?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height())
        .ok_or("there is no memory for the picture")?;
    pixels.fill(tiny_skia::Color::WHITE);
    let transform = tiny_skia::Transform::from_scale(scale, scale);
    resvg::render(&tree, transform, &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| error.to_string())
}
