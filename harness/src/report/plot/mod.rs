//! Figures, as SVG and as PNG that needs no installed font.

pub mod raster;
pub mod style;
pub mod verdicts;

use super::ReportError;
use crate::analysis::Summary;

/// A finished figure.
#[derive(Debug)]
pub struct Plot {
    /// File name without extension.
    pub name: String,
    /// As SVG.
    pub svg: String,
    /// As PNG.
    pub png: Vec<u8>,
}

/// All figures of a report.
///
/// # Errors
/// A figure cannot be drawn or rasterised.
pub fn plots(summary: &Summary) -> Result<Vec<Plot>, ReportError> {
    verdicts::figures(summary)
        .into_iter()
        .map(|figure| {
            let failed = |reason: String| ReportError::Plot {
                plot: figure.name.clone(),
                reason,
            };
            let svg = verdicts::draw(&figure).map_err(failed)?;
            let png = raster::png(&svg).map_err(failed)?;
            Ok(Plot {
                name: figure.name.clone(),
                svg,
                png,
            })
        })
        .collect()
}
