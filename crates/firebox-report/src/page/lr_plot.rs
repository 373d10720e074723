//! The curve of a search for a learning rate, as a section of a report.

use plotters::prelude::*;

use crate::error::{Error, ErrorKind};
use crate::page::chart::{FIRST, SECOND, THIN, THIRD, legend};
use crate::page::html::Report;
use firebox_train::trainer::LrCurve;

impl Report {
    /// The loss by learning rate, with the rates that it suggests.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if the chart cannot be drawn.
    pub fn lr_curve(self, curve: &LrCurve) -> Result<Self, Error> {
        let chart = draw(curve).map_err(|text| {
            Error::new(ErrorKind::RunDir, format!("no chart of the learning rates: {text}"))
        })?;
        let end = match curve.diverged() {
            true => "The search ended when the loss had grown too much.",
            false => "The search went through all rates.",
        };
        let text = format!("<p>Each step at a higher rate than the one before. {end}</p>");
        Ok(self.section("Learning rates", &format!("{text}{chart}")))
    }
}

fn draw(curve: &LrCurve) -> Result<String, String> {
    let points = curve.points();
    let (Some(first), Some(last)) = (points.first(), points.last()) else {
        return Ok("<p>No steps.</p>".to_owned());
    };
    let range = |values: &mut dyn Iterator<Item = f64>| {
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
    };
    // Losses near the end can be far above all others: what there is to see is how they fall before.
    let (lowest, _) = points.iter().enumerate().fold((0, f64::INFINITY), |best, (index, point)| {
        if point.smoothed < best.1 { (index, point.smoothed) } else { best }
    });
    let (low, high) = range(&mut points[..=lowest].iter().map(|point| point.smoothed));
    let low = low.min(range(&mut points.iter().map(|point| point.loss)).0);
    // Where all losses are the same, a margin in terms of their size: less would be lost in rounding.
    let margin = ((high - low) * 0.1).max(1e-9).max(high.abs().max(low.abs()) * 1e-9);
    let (low, high) = (low - margin, high + margin);
    if !(high - low).is_finite() {
        return Ok("<p>The losses are too far apart to be drawn.</p>".to_owned());
    }
    let series = |of: fn(&firebox_train::trainer::LrPoint) -> f64| {
        points.iter().map(move |point| (point.lr, of(point).min(high))).collect::<Vec<_>>()
    };
    let smoothed_at = |lr: f64| points.iter().find(|point| point.lr >= lr).map(|point| point.smoothed);

    let mut svg = String::new();
    {
        let text = |error: DrawingAreaErrorKind<_>| format!("{error:?}");
        let root = SVGBackend::with_string(&mut svg, (880, 360)).into_drawing_area();
        // A single point has no width.
        let rates = (first.lr..last.lr.max(first.lr * 1.01)).log_scale();
        let mut chart = ChartBuilder::on(&root)
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(56)
            .build_cartesian_2d(rates, low..high)
            .map_err(text)?;
        chart
            .configure_mesh()
            .x_desc("learning rate")
            .y_desc(curve.metric())
            .light_line_style(TRANSPARENT)
            .bold_line_style(RGBColor(230, 230, 230))
            .x_label_formatter(&|lr| format!("{lr:.0e}"))
            .draw()
            .map_err(text)?;
        for (name, color, width, line) in [
            ("each step", THIN, 1, series(|point| point.loss)),
            ("smoothed", FIRST, 2, series(|point| point.smoothed)),
        ] {
            chart
                .draw_series(LineSeries::new(line, color.stroke_width(width)))
                .map_err(text)?
                .label(name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        }
        for (name, color, lr) in [
            ("steepest", SECOND, curve.steepest()),
            ("a tenth of the lowest's", THIRD, curve.tenth_of_lowest()),
        ] {
            // A tenth of a rate can be below all that were tried.
            let Some(lr) = lr.filter(|lr| *lr >= first.lr) else { continue };
            let mark = PathElement::new([(lr, low), (lr, high)], color.stroke_width(1));
            chart
                .draw_series([mark])
                .map_err(text)?
                .label(format!("{name}: {lr:.1e}"))
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
            let place = smoothed_at(lr).map(|y| Circle::new((lr, y), 4, color.filled()));
            chart.draw_series(place).map_err(text)?;
        }
        legend(&mut chart, SeriesLabelPosition::LowerLeft).map_err(text)?;
        root.present().map_err(text)?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use firebox_train::trainer::LrFinder;

    #[test]
    fn any_curve_is_drawn() {
        let finder = LrFinder::new().with_divergence(f64::INFINITY).unwrap().with_smoothing(0.0).unwrap();
        for losses in [
            vec![],
            vec![2.0],
            vec![0.0; 30],
            vec![1e20; 30],
            vec![-1e300; 30],
            vec![1e300, -1e300, 1.0],
            vec![f64::MAX, f64::MIN, f64::MAX],
            vec![5e-324; 30],
            vec![f64::NAN],
        ] {
            let mut curve = LrCurve::new(&finder);
            losses.iter().for_each(|&loss| curve.add(loss));
            let chart = draw(&curve).unwrap();
            assert!(chart.starts_with('<') && !chart.contains("NaN"), "{losses:?}: {chart}");
        }
    }
}
