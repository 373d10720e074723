//! Curves, drawn as SVG.

use plotters::coord::CoordTranslate;
use plotters::prelude::*;

pub(crate) const THIN: RGBColor = RGBColor(178, 197, 224);
pub(crate) const FIRST: RGBColor = RGBColor(60, 120, 216);
pub(crate) const SECOND: RGBColor = RGBColor(204, 65, 37);
pub(crate) const THIRD: RGBColor = RGBColor(56, 118, 29);
pub(crate) const FOURTH: RGBColor = RGBColor(152, 100, 190);

/// Points on a chart are means of as many neighbours that no more than 600 are left.
pub(crate) fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let group = points.len().div_ceil(600).max(1);
    let mean = |values: &[(f64, f64)], of: fn(&(f64, f64)) -> f64| {
        values.iter().map(of).sum::<f64>() / values.len() as f64
    };
    points.chunks(group).map(|chunk| (mean(chunk, |point| point.0), mean(chunk, |point| point.1))).collect()
}

/// A curve's name, colour and points.
pub(crate) type Line<'a> = (&'a str, RGBColor, Vec<(f64, f64)>);

/// The names of a chart's curves, in a corner.
pub(crate) fn legend<'a, B: DrawingBackend + 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, B, C>,
    corner: SeriesLabelPosition,
) -> Result<(), DrawingAreaErrorKind<B::ErrorType>> {
    chart
        .configure_series_labels()
        .position(corner)
        .background_style(WHITE.mix(0.85))
        .border_style(RGBColor(210, 210, 210))
        .draw()
}

/// Curves in one pair of axes, as SVG.
pub(crate) fn draw(lines: &[Line<'_>], x_name: &str, y_name: &str) -> Result<String, String> {
    let points =
        || lines.iter().flat_map(|line| &line.2).filter(|point| point.0.is_finite() && point.1.is_finite());
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        let margin = ((high - low) * 0.04).max(1e-9);
        low - margin..high + margin
    };
    if points().next().is_none() {
        return Ok("<p>No records.</p>".to_owned());
    }
    let (x, y) = (range(|point| point.0), range(|point| point.1));
    let width = x.end - x.start;
    let mut svg = String::new();
    {
        let text = |error: DrawingAreaErrorKind<_>| format!("{error:?}");
        let root = SVGBackend::with_string(&mut svg, (880, 320)).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(x, y)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc(x_name)
            .y_desc(y_name)
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(230, 230, 230))
            .x_label_formatter(&|x| if width < 8.0 { format!("{x:.1}") } else { format!("{x:.0}") })
            .draw()
            .map_err(text)?;
        for (name, color, points) in lines {
            let finite = || points.iter().filter(|point| point.1.is_finite()).copied();
            let style = color.stroke_width(if *color == THIN { 1 } else { 2 });
            let drawn = chart.draw_series(LineSeries::new(finite(), style)).map_err(text)?;
            let color = *color;
            drawn
                .label(*name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            if points.len() <= 50 && x_name == "step" {
                chart
                    .draw_series(finite().map(|point| Circle::new(point, 3, color.filled())))
                    .map_err(text)?;
            }
        }
        if lines.len() > 1 {
            // Where the curves don't end.
            let (low, high) =
                (chart.plotting_area().get_y_range().start, chart.plotting_area().get_y_range().end);
            let end = lines[0].2.last().map_or(low, |point| point.1);
            let corner = match end > (low + high) / 2.0 {
                true => SeriesLabelPosition::LowerRight,
                false => SeriesLabelPosition::UpperRight,
            };
            legend(&mut chart, corner).map_err(text)?;
        }
        root.present().map_err(text)?;
    }
    Ok(svg)
}
