//! A run as one HTML file, without links to anything else.

use std::fmt::Write as _;
use std::io::Cursor;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use image::{GrayImage, ImageFormat};
use jiff::Zoned;

use crate::error::{Error, ErrorKind, io_error};
use crate::page::chart::{FIRST, FOURTH, Line, SECOND, THIN, THIRD, bounded, draw, thinned};
use crate::page::escape::escape;
use crate::page::heat_map::HeatMap;
use crate::page::history::{EpochRow, History};
use firebox_core::files;
use firebox_train::metrics::Confusion;
use firebox_train::run::Records;

/// A picture with a line below it.
///
/// ```
/// use firebox_report::{Picture, Report};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("report.html");
/// let image = image::GrayImage::from_pixel(28, 28, image::Luma([200]));
/// let picture = Picture { image, caption: "a grey square".to_owned() };
/// Report::new("Samples").gallery("Squares", &[picture])?.write(&path)?;
/// assert!(std::fs::read_to_string(path)?.contains("a grey square"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Picture {
    /// The picture.
    pub image: GrayImage,
    /// The line below it.
    pub caption: String,
}

/// Builds a run's report, section by section.
///
/// Each is made from the run's own records.
///
/// ```
/// use firebox_report::Report;
///
/// # let folder = tempfile::tempdir()?;
/// # let (metrics, path) = (folder.path().join("metrics.jsonl"), folder.path().join("report.html"));
/// # let record = |step: i32| format!(r#""kind":"step","split":"train","step":{step},"loss":0.5"#);
/// # let line = |step| format!("{{{}}}\n", record(step));
/// # std::fs::write(&metrics, line(1) + &line(2))?;
/// Report::of("My first network", &metrics)?
///     .facts([("test accuracy", "91.2 %".to_owned())])
///     .curve("loss")?
///     .write(&path)?;
/// assert!(std::fs::read_to_string(path)?.contains("91.2 %"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    title: String,
    body: String,
    /// After how many seconds a browser asks for the page again.
    refresh: Option<u64>,
    metrics: PathBuf,
    history: Arc<History>,
}

impl Report {
    /// A report of the records in a `metrics.jsonl`. Of a last line that was not written to its end nothing
    /// is taken.
    ///
    /// However many records there are, it takes some megabytes: of thousands of steps, curves have means of
    /// neighbors.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be read, [`ErrorKind::RunDir`] if a line is no JSON object.
    pub fn of(title: &str, metrics: &Path) -> Result<Self, Error> {
        let mut history = History::default();
        for record in Records::open(metrics)? {
            history.add(&record?);
        }
        Ok(Self::with_history(title, metrics, Arc::new(history)))
    }

    /// A report of records that were read before.
    pub(crate) fn with_history(title: &str, metrics: &Path, history: Arc<History>) -> Self {
        Report { metrics: metrics.to_owned(), history, ..Report::new(title) }
    }

    /// Lets a browser ask for the page again after so much time.
    ///
    /// It does, in whole seconds, for as long as the run goes on.
    pub fn refreshing(mut self, every: Duration) -> Self {
        self.refresh = Some(every.as_secs().max(1));
        self
    }

    /// A line about how far the run is, with a bar.
    pub fn status(mut self, text: &str, done: usize, steps: usize) -> Self {
        let _ = write!(
            self.body,
            "<p class=\"status\">{}<br><progress value=\"{done}\" max=\"{}\"></progress></p>",
            escape(text),
            steps.max(1)
        );
        self
    }

    /// From when on a page that is still there is that of a process that is gone. Where scripts run, that
    /// then takes the place of the [status](Self::status) before it.
    pub(crate) fn outdated(mut self, from: &Zoned) -> Self {
        let (millis, at) = (from.timestamp().as_millisecond(), from.strftime("%F %T"));
        let _ = write!(
            self.body,
            "<p id=\"gone\" data-from=\"{millis}\" hidden>There was no newer page by {at}: the process has ended without a \
             word. A resume goes on from its last checkpoint.</p><script>(function(){{var \
             gone=document.getElementById(\"gone\"),line=document.querySelector(\".status\").firstChild,going=line.data;\
             (function look(){{line.data=Date.now()<+gone.dataset.from?going:gone.textContent;setTimeout(look,1000)}})()}})()\
             </script>"
        );
        self
    }

    /// The course of every metric that the records have, by name, those of losses first.
    ///
    /// # Errors
    /// As for [`curve`](Self::curve).
    pub fn curves(self) -> Result<Self, Error> {
        let mut metrics = self.history.metrics();
        metrics.sort_by_key(|metric| (!metric.contains("loss"), metric.clone()));
        metrics.iter().try_fold(self, |report, metric| report.curve(metric))
    }

    /// A report without records.
    pub fn new(title: &str) -> Self {
        Report {
            title: title.to_owned(),
            body: String::new(),
            refresh: None,
            metrics: PathBuf::new(),
            history: Arc::default(),
        }
    }

    /// A heading, and HTML below it.
    pub(crate) fn section(mut self, title: &str, html: &str) -> Self {
        let _ = write!(self.body, "<h2>{}</h2>{html}", escape(title));
        self
    }

    /// A table of names and values.
    pub fn facts<'a>(mut self, facts: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        self.body.push_str("<table class=\"facts\">");
        for (name, value) in facts {
            let _ = write!(self.body, "<tr><th>{}</th><td>{}</td></tr>", escape(name), escape(&value));
        }
        self.body.push_str("</table>");
        self
    }

    /// Texts, each below a line that says what it is, with their line breaks.
    pub fn texts<'a>(mut self, title: &str, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let _ = write!(self.body, "<h2>{}</h2>", escape(title));
        for (caption, text) in texts {
            let (caption, text) = (escape(caption), escape(text));
            let _ = write!(self.body, "<p>{caption}</p><pre style=\"white-space:pre-wrap\">{text}</pre>");
        }
        self
    }

    /// A chart of up to four lines of (x, y), each with its name.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if the chart cannot be drawn.
    pub fn chart(
        mut self,
        title: &str,
        [x_name, y_name]: [&str; 2],
        lines: &[(&str, Vec<(f64, f64)>)],
    ) -> Result<Self, Error> {
        let colors = [FIRST, SECOND, THIRD, FOURTH].into_iter().cycle();
        let lines: Vec<Line<'_>> =
            lines.iter().zip(colors).map(|((name, points), color)| (*name, color, points.clone())).collect();
        let chart = draw(&lines, x_name, y_name).map_err(|text| self.undrawn(title, text))?;
        let _ = write!(self.body, "<h2>{}</h2>{chart}", escape(title));
        Ok(self)
    }

    /// Adds the course of a metric.
    ///
    /// It is a thin line for single steps, and dots for epochs and evaluations.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if the chart cannot be drawn.
    pub fn curve(mut self, metric: &str) -> Result<Self, Error> {
        let series = |kind: &str, split: &str| self.history.series(kind, split, metric);
        let mut lines = vec![("each step", THIN, thinned(series("step", "train")))];
        for (name, split, kind, color) in [
            ("training, by epoch", "train", "epoch", FIRST),
            ("validation", "valid", "eval", SECOND),
            ("test", "test", "eval", THIRD),
        ] {
            lines.push((name, color, bounded(series(kind, split))));
        }
        lines.retain(|(_, _, points)| !points.is_empty());
        let chart = draw(&lines, "step", metric).map_err(|text| self.undrawn(metric, text))?;
        let _ = write!(self.body, "<h2>{}</h2>{chart}", escape(&capitalized(metric)));
        Ok(self)
    }

    /// Adds a section on where the time of training went.
    ///
    /// It tells, by epoch and over time, computing from waiting for data, and for which stage.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if the chart cannot be drawn.
    pub fn data_wait(mut self) -> Result<Self, Error> {
        let mut rows = String::new();
        for row in self.history.epochs() {
            let EpochRow { epochs: (first, last), seconds, wait, busy, skipped, verdict } = row;
            let epochs = match first == last {
                true => format!("{}", first + 1.0),
                false => format!("{} to {}", first + 1.0, last + 1.0),
            };
            let _ = write!(
                rows,
                "<tr><td>{epochs}</td><td>{seconds:.1}</td><td>{wait:.2}</td><td>{:.1} %</td>",
                100.0 * wait / seconds
            );
            for busy in busy {
                let _ = write!(rows, "<td>{busy:.2}</td>");
            }
            let skipped = skipped.map_or(String::new(), |skipped| skipped.to_string());
            let _ = write!(rows, "<td>{skipped}</td><td>{}</td></tr>", escape(verdict));
        }
        let chart = draw(&self.timeline(), "seconds of training", "%")
            .map_err(|text| self.undrawn("the timeline", text))?;
        let _ = write!(
            self.body,
            "<h2>Where the time went</h2><table><tr><th>epoch</th><th>seconds</th>\
             <th>waiting for data</th><th>share</th><th>workers reading</th><th>transforming</th><th>collating</th>\
             <th>skipped</th><th>verdict</th></tr>{rows}</table><p>How much of the time training waited for data, and \
             how much of theirs the workers spent on each stage:</p>{chart}"
        );
        Ok(self)
    }

    /// The loader's timelines, one epoch after the other: shares of the time, in percent.
    fn timeline(&self) -> Vec<Line<'static>> {
        let names = [
            ("waiting for data", SECOND),
            ("workers reading", THIRD),
            ("workers transforming", FIRST),
            ("workers collating", FOURTH),
        ];
        let lines = names.into_iter().zip(self.history.timeline());
        let lines = lines.map(|((name, color), points)| (name, color, bounded(points)));
        lines.filter(|(_, _, points)| !points.is_empty()).collect()
    }

    /// Adds the matrix of which class was taken for which.
    ///
    /// It has the share of each class that was right.
    pub fn confusion(mut self, confusion: &Confusion, names: &[&str]) -> Self {
        let classes = confusion.classes();
        let name = |class: usize| escape(names.get(class).copied().unwrap_or("?"));
        self.body.push_str(
            "<h2>Confusion matrix</h2><p>Rows: the true class. Columns: the predicted one.</p>\
             <table class=\"confusion\"><tr><th></th>",
        );
        (0..classes).for_each(|class| {
            let _ = write!(self.body, "<th class=\"column\"><span>{}</span></th>", name(class));
        });
        self.body.push_str("<th>right</th></tr>");
        for class in 0..classes {
            let decided: usize = (0..classes).map(|predicted| confusion.get(class, predicted)).sum();
            let total = decided + confusion.undecided(class);
            let _ = write!(self.body, "<tr><th>{}</th>", name(class));
            for predicted in 0..classes {
                let count = confusion.get(class, predicted);
                let share = count as f64 / total.max(1) as f64;
                let hue = if class == predicted { "60,120,216" } else { "204,65,37" };
                // Square root: the rare mistakes are what one looks for.
                let _ = write!(
                    self.body,
                    "<td style=\"background:rgba({hue},{:.3})\">{count}</td>",
                    share.sqrt() * 0.8
                );
            }
            let right = 100.0 * confusion.get(class, class) as f64 / total.max(1) as f64;
            let _ = write!(self.body, "<td class=\"right\">{right:.1} %</td></tr>");
        }
        self.body.push_str("</table>");
        let undecided: usize = (0..classes).map(|class| confusion.undecided(class)).sum();
        if undecided > 0 {
            let _ = write!(self.body, "<p>Taken for no class, as the model gave NaN: {undecided}.</p>");
        }
        self
    }

    /// Small pictures side by side.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if a picture cannot be encoded.
    pub fn gallery(self, title: &str, pictures: &[Picture]) -> Result<Self, Error> {
        self.pictures(title, pictures, "gallery")
    }

    /// Pictures in their own size, as many in a row as there is room for.
    ///
    /// # Errors
    /// [`ErrorKind::RunDir`] if a picture cannot be encoded.
    pub fn figures(self, title: &str, pictures: &[Picture]) -> Result<Self, Error> {
        self.pictures(title, pictures, "gallery wide")
    }

    fn pictures(mut self, title: &str, pictures: &[Picture], class: &str) -> Result<Self, Error> {
        let _ = write!(self.body, "<h2>{}</h2><div class=\"{class}\">", escape(title));
        for Picture { image, caption } in pictures {
            let mut png = Cursor::new(Vec::new());
            image.write_to(&mut png, ImageFormat::Png).map_err(|error| {
                Error::new(ErrorKind::RunDir, format!("picture {caption}")).caused_by(error)
            })?;
            let data = BASE64_STANDARD.encode(png.into_inner());
            let caption = escape(caption);
            let _ = write!(
                self.body,
                "<figure><img alt=\"{caption}\" src=\"data:image/png;base64,{data}\">\
                 <figcaption>{caption}</figcaption></figure>"
            );
        }
        self.body.push_str("</div>");
        Ok(self)
    }

    /// Matrices of shares side by side, such as an attention's weights.
    pub fn maps(mut self, title: &str, maps: &[HeatMap]) -> Self {
        let _ = write!(self.body, "<h2>{}</h2><div class=\"gallery maps\">", escape(title));
        for map in maps {
            let (picture, caption) = (map.draw(), escape(&map.caption));
            let _ = write!(self.body, "<figure>{picture}<figcaption>{caption}</figcaption></figure>");
        }
        self.body.push_str("</div>");
        self
    }

    /// Writes the page, in the place of one that may be there.
    ///
    /// A reader finds one of them whole.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        let title = escape(&self.title);
        let refresh =
            self.refresh.map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"));
        let page = format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">{}<title>{title}</title>\
             <style>{STYLE}</style></head><body><h1>{title}</h1>{}</body></html>\n",
            refresh.unwrap_or_default(),
            self.body
        );
        files::replace(path, page.as_bytes()).map_err(|error| io_error(path, "cannot be written", error))
    }

    fn undrawn(&self, metric: &str, text: String) -> Error {
        Error::new(ErrorKind::RunDir, format!("no chart of {metric}: {text}")).at_path(&self.metrics)
    }
}

const STYLE: &str = "\
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:920px;margin:2em auto;padding:0 1em}\
h1{font-size:1.6em}.status progress{width:100%}h2{font-size:1.2em;margin-top:2em}svg{max-width:100%;height:auto}\
table{border-collapse:collapse}td,th{padding:.25em .6em;text-align:right;font-variant-numeric:tabular-nums}\
.facts th,.facts td{text-align:left;vertical-align:top}.facts th{white-space:nowrap}\
.facts td{overflow-wrap:anywhere}tr+tr{border-top:1px solid #ddd}.confusion tr{border:0}\
.confusion td{min-width:2.6em}.confusion .column{height:7.5em;vertical-align:bottom;padding:.25em 0}\
.confusion .column span{writing-mode:vertical-rl;transform:rotate(180deg)}.confusion .right{color:#666}\
.gallery{display:flex;flex-wrap:wrap;gap:12px}figure{margin:0;width:104px;font-size:12px;line-height:1.3}\
figure img{width:104px;image-rendering:pixelated;border:1px solid #ddd}.maps figure{width:auto}\
.wide figure,.wide figure img{width:auto;max-width:100%}";

/// A metric's name as a title.
fn capitalized(name: &str) -> String {
    let text = name.replace('_', " ");
    let mut letters = text.chars();
    letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
}
