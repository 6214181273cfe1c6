//! A chart of a measurement: latency by percentile above, requests a second over the time below.

use std::error::Error as StdError;
use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::tally::{Figures, Outcome};
use crate::{Error, Kind};

const SIZE: (u32, u32) = (900, 700);

/// Writes it to `path` as SVG.
pub fn draw(outcome: &Outcome, title: &str, path: &Path) -> Result<(), Error> {
    sketch(outcome, title, path).map_err(|error| {
        let what = format!("{} cannot be drawn: {error}", path.display());
        Error::new(Kind::Local, what).remedy("name another file with --svg")
    })
}

fn sketch(outcome: &Outcome, title: &str, path: &Path) -> Result<(), Box<dyn StdError>> {
    let root = SVGBackend::new(path, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (upper, lower) = root.titled(title, ("sans-serif", 20))?.split_vertically(SIZE.1 * 6 / 10);
    latencies(outcome, &upper)?;
    over_time(outcome, &lower)?;
    root.present()?;
    Ok(())
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn latencies(outcome: &Outcome, area: &Area) -> Result<(), Box<dyn StdError>> {
    let kinds = [("reads", &outcome.read, BLUE), ("writes", &outcome.write, RED)];
    let all = kinds.iter().filter_map(|(_, figures, _)| figures.as_ref());
    let low = all.clone().map(|figures| figures.latency_us.min).fold(f64::MAX, f64::min).max(0.1);
    let high = all.map(|figures| figures.latency_us.max).fold(low * 2.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(15)
        .x_label_area_size(40)
        .y_label_area_size(75)
        .build_cartesian_2d(0.0..nines(99.99), (low..high * 1.1).log_scale())?;
    let percent = |nines: &f64| format!("{} %", (100.0 - 100.0 / 10_f64.powf(*nines) * 1.0 + 1e-9) as f32);
    let mut mesh = chart.configure_mesh();
    mesh.x_desc("of the requests").y_desc("latency in µs").x_labels(5).x_label_formatter(&percent);
    mesh.draw()?;
    for (name, figures, colour) in kinds {
        let Some(figures) = figures else { continue };
        let line = chart.draw_series(LineSeries::new(curve(figures), colour.stroke_width(2)))?;
        line.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour));
    }
    let mut legend = chart.configure_series_labels();
    legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

fn over_time(outcome: &Outcome, area: &Area) -> Result<(), Box<dyn StdError>> {
    let top = outcome.iops_over_time.iter().copied().fold(1.0, f64::max) * 1.1;
    let mut builder = ChartBuilder::on(area);
    builder.margin(15).x_label_area_size(40).y_label_area_size(75);
    let mut chart: ChartContext<'_, _, Cartesian2d<RangedCoordf64, RangedCoordf64>> =
        builder.build_cartesian_2d(0.0..outcome.seconds, 0.0..top)?;
    chart.configure_mesh().x_desc("seconds").y_desc("requests a second").y_labels(6).draw()?;
    let step = outcome.seconds / outcome.iops_over_time.len().max(1) as f64;
    let points = outcome.iops_over_time.iter().enumerate().map(|(n, iops)| ((n as f64 + 0.5) * step, *iops));
    chart.draw_series(LineSeries::new(points, BLACK.stroke_width(2)))?;
    Ok(())
}

/// Percentiles by how many nines they have: 90 % is 1, 99 % is 2.
fn nines(percent: f64) -> f64 {
    -((100.0 - percent) / 100.0).log10()
}

fn curve(figures: &Figures) -> impl Iterator<Item = (f64, f64)> {
    let points = figures.latency_us.percentiles.iter().map(|(percent, us)| (nines(*percent), *us));
    std::iter::once((0.0, figures.latency_us.min)).chain(points)
}
