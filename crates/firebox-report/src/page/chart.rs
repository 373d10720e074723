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

/// All points while there are few, and [`thinned`] ones of more: a page has room for so much.
pub(crate) fn bounded(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    if points.len() <= 1200 { points } else { thinned(points) }
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

/// True if a chart has a place for a point: not for NaN, nor so large that the axes have no
/// ends.
fn is_drawn(point: &&(f64, f64)) -> bool {
    const LARGEST: f64 = f64::MAX / 1e3;
    point.0.abs() <= LARGEST && point.1.abs() <= LARGEST
}

/// Curves in one pair of axes, as SVG.
pub(crate) fn draw(lines: &[Line<'_>], x_name: &str, y_name: &str) -> Result<String, String> {
    let points = || lines.iter().flat_map(|line| &line.2).filter(is_drawn);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let (low, high) = points()
            .map(of)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
        // A line at one height has some room, too, which its digits can tell.
        let margin = ((high - low) * 0.04).max(low.abs().max(high.abs()) * 1e-9).max(1e-9);
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
            let finite = || points.iter().filter(is_drawn).copied();
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

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn whatever_the_numbers_are_there_is_a_chart() {
        for (name, points) in [
            ("one point", vec![(1.0, 2.0)]),
            ("far away", vec![(1e9, 2.0)]),
            ("constant", vec![(0.0, 1e12), (5.0, 1e12)]),
            ("constant, huge", vec![(0.0, -1e300), (5.0, -1e300)]),
            ("constant, tiny", vec![(0.0, 5e-324), (5.0, 5e-324)]),
            ("the whole range", vec![(0.0, -1e308), (1.0, 1e308), (2.0, 0.0)]),
            ("the largest", vec![(0.0, f64::MIN), (1.0, f64::MAX), (2.0, 0.0)]),
            ("gaps", vec![(0.0, f64::NAN), (1.0, 1.0), (f64::NAN, 2.0), (3.0, f64::INFINITY), (4.0, -3.0)]),
            ("backwards", vec![(4.0, 1.0), (1.0, -1.0), (4.0, 1.0)]),
            ("close to each other", vec![(0.0, 1.0), (1.0, 1.0 + f64::EPSILON)]),
        ] {
            let begun = Instant::now();
            for lines in
                [vec![("it", FIRST, points.clone())], vec![("it", FIRST, points), ("none", SECOND, vec![])]]
            {
                let svg = draw(&lines, "step", "value").unwrap();
                assert!(
                    svg.starts_with("<svg") && !svg.contains("NaN") && !svg.contains("inf"),
                    "{name}: {svg}"
                );
                assert!(svg.len() < 100_000, "{name}: {} bytes", svg.len());
            }
            assert!(begun.elapsed() < Duration::from_secs(2), "{name}");
        }
        for none in [vec![], vec![(f64::NAN, 1.0), (1.0, f64::INFINITY)]] {
            assert_eq!(draw(&[("it", FIRST, none)], "step", "value").unwrap(), "<p>No records.</p>");
        }
        assert_eq!(draw(&[], "step", "value").unwrap(), "<p>No records.</p>");
    }
}
