//! The chart of a run: a panel for each scenario, a bar for each contestant.
//!
//! Deep loads show requests a second, large ones MiB a second, depth 1 the median latency.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::compare::{Outcome, Record};
use crate::contest::{Part, Showing};
use crate::sample::Sample;
use crate::scenario::Goals;
use crate::statistics::Spread;

const COLUMNS: usize = 3;
const PANEL_WIDTH: usize = 460;
const HEAD_HEIGHT: usize = 64;
const TITLE_HEIGHT: i32 = 40;
const BAR_HEIGHT: i32 = 22;
const BAR_LEFT: i32 = 170;
const BAR_RIGHT: i32 = 370;

const INK: RGBColor = RGBColor(32, 36, 44);
const SUBJECT: RGBColor = RGBColor(214, 84, 28);
const PEER: RGBColor = RGBColor(88, 124, 168);
const REFERENCE: RGBColor = RGBColor(176, 180, 188);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws `record` into the file at `path`.
pub fn draw(record: &Record, path: &Path) -> Result<()> {
    let most = record.outcomes.iter().map(|outcome| outcome.showings.len()).max().unwrap_or(1);
    let panel_height = TITLE_HEIGHT as usize + most * BAR_HEIGHT as usize + 24;
    let rows = record.outcomes.len().div_ceil(COLUMNS);
    let size = (COLUMNS * PANEL_WIDTH, HEAD_HEIGHT + rows * panel_height);
    let root = SVGBackend::new(path, (size.0 as u32, size.1 as u32)).into_drawing_area();
    let failed = |error| anyhow!("{error}");
    root.fill(&WHITE).map_err(failed)?;
    let (head, body) = root.split_vertically(HEAD_HEIGHT as u32);
    draw_head(&head, record).map_err(failed)?;
    for (panel, outcome) in body.split_evenly((rows, COLUMNS)).iter().zip(&record.outcomes) {
        draw_panel(panel, outcome).map_err(failed)?;
    }
    root.present().map_err(failed)
}

type Drawn<'a> = Result<(), DrawingAreaErrorKind<<SVGBackend<'a> as DrawingBackend>::ErrorType>>;

fn draw_head<'a>(area: &Area<'a>, record: &Record) -> Drawn<'a> {
    let method = &record.plan.method;
    let settings = format!(
        "Medians of {} interleaved rounds of {:?}; server on CPU {}, client on CPU {}, loopback TCP",
        record.plan.rounds, method.sample, method.server_cpu, method.client_cpu
    );
    area.draw(&Text::new(record.machine.line(), (16, 24), ink(17)))?;
    area.draw(&Text::new(settings, (16, 46), ink(15)))
}

fn draw_panel<'a>(area: &Area<'a>, outcome: &Outcome) -> Drawn<'a> {
    let measure = Measure::of(outcome);
    let title = format!("{}: {}", outcome.scenario.id(), measure.title);
    area.draw(&Text::new(title, (16, 24), ink(16)))?;
    let values: Vec<f64> = outcome.showings.iter().map(|showing| measure.median(showing)).collect();
    let longest = values.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    for (index, (showing, value)) in outcome.showings.iter().zip(&values).enumerate() {
        let top = TITLE_HEIGHT + index as i32 * BAR_HEIGHT;
        let right = BAR_LEFT + ((BAR_RIGHT - BAR_LEFT) as f64 * value / longest) as i32;
        let middle = top + BAR_HEIGHT / 2 - 2;
        area.draw(&Text::new(showing.name.clone(), (BAR_LEFT - 8, middle), beside(HPos::Right)))?;
        let bar = [(BAR_LEFT, top), (right, top + BAR_HEIGHT - 5)];
        area.draw(&Rectangle::new(bar, color(showing.part).filled()))?;
        let figure = measure.text(*value);
        area.draw(&Text::new(figure, (right + 6, middle), beside(HPos::Left)))?;
    }
    Ok(())
}

fn ink<'a>(size: i32) -> TextStyle<'a> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&INK);
    style.pos(Pos::new(HPos::Left, VPos::Center))
}

fn beside<'a>(side: HPos) -> TextStyle<'a> {
    ink(15).pos(Pos::new(side, VPos::Center))
}

fn color(part: Part) -> RGBColor {
    match part {
        Part::Subject => SUBJECT,
        Part::Peer => PEER,
        Part::Floor | Part::Local => REFERENCE,
    }
}

/// What a panel shows of each sample.
struct Measure {
    title: &'static str,
    of: fn(&Sample) -> f64,
    digits: usize,
}

impl Measure {
    fn of(outcome: &Outcome) -> Measure {
        let load = &outcome.scenario.load;
        match outcome.scenario.goals {
            Goals::Latency => {
                Measure { title: "p50 latency, µs", of: |sample| sample.latency.p50_us, digits: 1 }
            }
            Goals::Throughput { .. } if load.block_bytes > 4096 => {
                Measure { title: "MiB/s", of: |sample| sample.mib_per_s, digits: 0 }
            }
            Goals::Throughput { .. } => {
                Measure { title: "thousand requests/s", of: |sample| sample.iops / 1000.0, digits: 0 }
            }
        }
    }

    fn median(&self, showing: &Showing) -> f64 {
        Spread::of(showing.series(self.of)).map_or(0.0, |spread| spread.median)
    }

    fn text(&self, value: f64) -> String {
        format!("{value:.0$}", self.digits)
    }
}
