//! The table as a picture: accuracy over cost, SVG.

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Precision;
use super::table::Row;

const SIZE: (u32, u32) = (900, 560);
const INK: RGBColor = RGBColor(60, 64, 72);
const FRONT: RGBColor = RGBColor(0, 102, 204);
const CHOSEN: RGBColor = RGBColor(214, 84, 0);

/// An SVG of all rows: the front as a line, what it beats as grey rings, the chosen row marked.
///
/// # Errors
/// None that a user could cause.
pub fn svg(rows: &[Row], chosen: Option<usize>, title: &str) -> Result<String> {
    let mut text = String::new();
    draw(&mut text, rows, chosen, title).map_err(|e| anyhow!("the plot: {e}"))?;
    Ok(text)
}

fn draw(text: &mut String, rows: &[Row], chosen: Option<usize>, title: &str) -> Result<(), Box<dyn std::error::Error>> {
    let place = |row: &Row| (row.macs as f64 / 1e6, f64::from(row.expected_map50) * 100.0);
    let points: Vec<_> = rows.iter().map(place).collect();
    let of = |f: fn(f64, f64) -> f64, start: f64, values: &mut dyn Iterator<Item = f64>| values.fold(start, f);
    let (left, right) = (
        of(f64::min, f64::MAX, &mut points.iter().map(|p| p.0)) / 1.25,
        of(f64::max, 1.0, &mut points.iter().map(|p| p.0)) * 1.6,
    );
    let low = (of(f64::min, 100.0, &mut points.iter().map(|p| p.1)) / 10.0).floor() * 10.0;
    let high = ((of(f64::max, 0.0, &mut points.iter().map(|p| p.1)) + 3.0) / 10.0).ceil() * 10.0;
    let root = SVGBackend::with_string(text, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 20).into_font().color(&INK))
        .margin(16)
        .x_label_area_size(44)
        .y_label_area_size(52)
        .build_cartesian_2d((left..right).log_scale(), low..high)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("million multiply-accumulates a frame")
        .y_desc("mAP50 to expect, %")
        .label_style(("sans-serif", 14).into_font().color(&INK))
        .x_label_formatter(&|x| {
            // Every line of a decade with its number would be more than there is room for.
            let leading = x / 10_f64.powf(x.log10().floor());
            if [1.0, 2.0, 5.0].iter().any(|n| (leading - n).abs() < 0.01) { format!("{x:.0}") } else { String::new() }
        })
        .y_label_formatter(&|y| format!("{y:.0}"))
        .draw()?;
    let front = || rows.iter().filter(|row| row.front);
    chart.draw_series(rows.iter().filter(|row| !row.front).map(|row| Circle::new(place(row), 3, INK.mix(0.35))))?;
    chart.draw_series(LineSeries::new(front().map(place), FRONT.stroke_width(2)))?;
    chart.draw_series(front().map(|row| Circle::new(place(row), 4, FRONT.filled())))?;
    let label = ("sans-serif", 12).into_font().color(&INK);
    chart.draw_series(front().map(|row| {
        let time = row.ms.map_or_else(String::new, |ms| format!(" {ms:.1} ms"));
        let int8 = if row.precision == Precision::Int8 { " int8" } else { "" };
        EmptyElement::at(place(row))
            + Text::new(format!("{} {}{int8}{time}", row.size, row.input), (6, 4), label.clone())
    }))?;
    if let Some(row) = chosen.and_then(|n| rows.get(n)) {
        chart.draw_series([Circle::new(place(row), 8, CHOSEN.stroke_width(3))])?;
    }
    root.present()?;
    Ok(())
}
