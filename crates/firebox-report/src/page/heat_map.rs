//! A matrix as a picture.

use std::fmt::Write as _;

use crate::page::escape::escape;

/// A matrix of shares as a picture, darker where one is larger.
///
/// It shows an attention's weights, source by target.
///
/// ```
/// use firebox_report::{HeatMap, Report};
///
/// let map = HeatMap {
///     caption: "cat → K AE T".to_owned(),
///     columns: ["c", "a", "t"].map(str::to_owned).to_vec(),
///     rows: vec![("K".to_owned(), vec![0.9, 0.1, 0.0]), ("AE".to_owned(), vec![0.1, 0.8, 0.1])],
/// };
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("report.html");
/// Report::new("Attention").maps("Where the decoder looks", &[map]).write(&path)?;
/// assert!(std::fs::read_to_string(path)?.contains("cat → K AE T"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct HeatMap {
    /// The line below it.
    pub caption: String,
    /// The names of the columns, from the left.
    pub columns: Vec<String>,
    /// The name of each row, and its shares from 0 to 1.
    ///
    /// There is a share for each column; one that is missing or NaN is drawn as 0.
    pub rows: Vec<(String, Vec<f32>)>,
}

/// Pixels of a cell's side.
const CELL: usize = 20;
/// Pixels for the names of the rows, and above the columns.
const MARGINS: [usize; 2] = [38, 22];

impl HeatMap {
    /// As SVG.
    pub(crate) fn draw(&self) -> String {
        let [left, top] = MARGINS;
        let (width, height) = (left + CELL * self.columns.len() + 1, top + CELL * self.rows.len() + 1);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"map\" role=\"img\" aria-label=\"{}\" width=\"{width}\" \
             height=\"{height}\" viewBox=\"0 0 {width} {height}\" font-size=\"12\" fill=\"#333\">",
            escape(&self.caption)
        );
        for (column, name) in self.columns.iter().enumerate() {
            let x = left + CELL * column + CELL / 2;
            let _ = write!(
                svg,
                "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                top - 6,
                escape(name)
            );
        }
        for (row, (name, shares)) in self.rows.iter().enumerate() {
            let y = top + CELL * row;
            let (x, base) = (left - 6, y + CELL - 6);
            let _ = write!(svg, "<text x=\"{x}\" y=\"{base}\" text-anchor=\"end\">{}</text>", escape(name));
            for column in 0..self.columns.len() {
                let share = shares.get(column).copied().filter(|share| share.is_finite()).unwrap_or(0.0);
                let x = left + CELL * column;
                let _ = write!(
                    svg,
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"#3c78d8\" \
                     fill-opacity=\"{:.3}\" stroke=\"#ddd\"/>",
                    share.clamp(0.0, 1.0)
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_share_has_a_cell_at_its_place() {
        let map = HeatMap {
            caption: "a<b".to_owned(),
            columns: vec!["x".to_owned(), "&".to_owned()],
            rows: vec![("P".to_owned(), vec![0.25, 2.0]), ("Q".to_owned(), vec![f32::NAN])],
        };
        let svg = map.draw();
        let cells: Vec<&str> = svg.split("<rect ").skip(1).collect();
        let shades = ["0.250", "1.000", "0.000", "0.000"];
        let places = [(38, 22), (58, 22), (38, 42), (58, 42)];
        assert_eq!(cells.len(), 4);
        for ((cell, shade), (x, y)) in cells.iter().zip(shades).zip(places) {
            assert!(cell.starts_with(&format!("x=\"{x}\" y=\"{y}\"")), "{cell}");
            assert!(cell.contains(&format!("fill-opacity=\"{shade}\"")), "{cell}");
        }
        for text in ["a&lt;b", ">x</text>", ">&amp;</text>", ">P</text>", ">Q</text>"] {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn a_map_of_nothing_is_a_picture_too() {
        let named = |count: usize| (0..count).map(|name| name.to_string()).collect::<Vec<_>>();
        for (columns, rows) in [(0, 0), (0, 3), (3, 0)] {
            let rows = named(rows)
                .into_iter()
                .map(|name| (name, vec![f32::NEG_INFINITY, f32::MAX, -1.0, 0.5]))
                .collect();
            let svg = HeatMap { caption: String::new(), columns: named(columns), rows }.draw();
            assert!(svg.starts_with("<svg") && svg.ends_with("</svg>") && !svg.contains("<rect"), "{svg}");
        }
    }
}
