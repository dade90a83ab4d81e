//! Figures, as SVG and as PNG that needs no installed font.

pub mod allowed;
pub mod canvas;
pub mod cost;
pub mod delays;
pub mod legend;
pub mod mechanisms;
pub mod raster;
pub mod reduction;
pub mod style;
pub mod timeline;
pub mod verdicts;

use rayon::prelude::*;

use super::ReportError;
use crate::analysis::Analysis;
use timeline::Timelines;

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
pub fn plots(analysis: &Analysis, timelines: Timelines) -> Result<Vec<Plot>, ReportError> {
    let summary = &analysis.summary;
    let mut drawings: Vec<(String, Result<String, String>)> = Vec::new();
    for figure in verdicts::figures(summary) {
        drawings.push((figure.name.clone(), verdicts::draw(&figure)));
    }
    if let Some(figure) = allowed::figure(summary) {
        drawings.push(("allowed".to_owned(), allowed::draw(&figure)));
    }
    if let Some(figure) = mechanisms::figure(summary) {
        drawings.push(("mechanisms".to_owned(), mechanisms::draw(&figure)));
    }
    if !analysis.classes.reductions.is_empty() {
        let drawing = reduction::draw(&analysis.classes.reductions);
        drawings.push(("reduction".to_owned(), drawing));
    }
    for figure in delays::figures(summary) {
        drawings.push((figure.name.to_owned(), delays::draw(&figure)));
    }
    for line in timeline::chosen(&analysis.timelines, timelines) {
        drawings.push((timeline::file_name(line), timeline::draw(line)));
    }
    drawings
        .into_par_iter()
        .map(|(name, svg)| {
            let failed = |reason: String| ReportError::Plot {
                plot: name.clone(),
                reason,
            };
            let svg = svg.map_err(failed)?;
            let png = raster::png(&svg).map_err(failed)?;
            Ok(Plot { name, svg, png })
        })
        .collect()
}
