//! Charts as display lists: a chart is a list of shapes, painted onto SVG and PNG alike by [`paint`].
//!
//! A missing value is drawn as "n/a", never as 0.

pub mod grid;
pub mod lines;
pub mod paint;
mod png;
pub mod radar;
pub mod rows;
pub mod slope;
pub mod style;

pub use style::Colour;

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anchor {
    /// The text starts at the point.
    Start,
    /// The text is centred on the point.
    Middle,
    /// The text ends at the point.
    End,
}

/// One thing to draw. Lengths are in units of a page pixel.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// A filled rectangle: left, top, width, height.
    Rect(f64, f64, f64, f64, Colour),
    /// A line through these points: colour and stroke width.
    Line(Vec<(f64, f64)>, Colour, f64),
    /// A filled polygon with its opacity.
    Area(Vec<(f64, f64)>, Colour, f64),
    /// A filled disc: centre and radius.
    Dot(f64, f64, f64, Colour),
    /// One line of text, vertically centred on its point.
    Text {
        /// Horizontal position of the point.
        x: f64,
        /// Vertical centre of the text.
        y: f64,
        /// The text, on one line.
        text: String,
        /// Font size in page pixels.
        size: f64,
        /// Colour of the text.
        colour: Colour,
        /// Where the text stands relative to `x`.
        anchor: Anchor,
        /// Whether the bold face is used.
        bold: bool,
    },
}

/// A finished chart: shapes on an area, not bound to a format.
#[derive(Debug, Clone, PartialEq)]
pub struct Scene {
    /// Width in page pixels.
    pub width: f64,
    /// Height in page pixels.
    pub height: f64,
    /// Shapes in drawing order; later ones lie on top.
    pub shapes: Vec<Shape>,
}

/// A value with its interval, as a chart shows it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Value {
    /// The value; `None` is shown as "n/a".
    pub value: Option<f64>,
    /// Lower end of the interval.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
}

impl From<&crate::record::Measurement> for Value {
    fn from(m: &crate::record::Measurement) -> Self {
        Self { value: m.value, low: m.low, high: m.high }
    }
}

/// One thing that a legend names.
#[derive(Debug, Clone, PartialEq)]
pub struct Key {
    /// Name in the legend.
    pub name: String,
    /// Colour in the chart.
    pub colour: Colour,
}

impl Scene {
    /// A chart without shapes.
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, shapes: Vec::new() }
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: impl Into<String>, anchor: Anchor) {
        self.styled(x, y, text, style::TEXT, style::INK, anchor, false);
    }

    pub(super) fn faint(&mut self, x: f64, y: f64, text: impl Into<String>, anchor: Anchor) {
        self.styled(x, y, text, style::SMALL, style::FAINT, anchor, false);
    }

    pub(super) fn bold(&mut self, x: f64, y: f64, text: impl Into<String>, anchor: Anchor) {
        self.styled(x, y, text, style::TEXT, style::INK, anchor, true);
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn styled(
        &mut self,
        x: f64,
        y: f64,
        text: impl Into<String>,
        size: f64,
        colour: Colour,
        anchor: Anchor,
        bold: bool,
    ) {
        self.shapes.push(Shape::Text { x, y, text: text.into(), size, colour, anchor, bold });
    }

    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, colour: Colour, width: f64) {
        self.shapes.push(Shape::Line(points, colour, width));
    }

    /// A horizontal interval with end caps.
    pub(super) fn whisker(&mut self, y: f64, x_low: f64, x_high: f64) {
        self.line(vec![(x_low, y), (x_high, y)], style::INK, 1.5);
        for x in [x_low, x_high] {
            self.line(vec![(x, y - 4.0), (x, y + 4.0)], style::INK, 1.5);
        }
    }

    /// Coloured squares with names from `x` on, wrapped at the right edge; returns the height used.
    pub(super) fn legend(&mut self, x: f64, y: f64, keys: &[Key]) -> f64 {
        let (mut at, mut row) = (x, y);
        for key in keys {
            let width = 22.0 + width_of(&key.name, style::SMALL) + 18.0;
            if at + width > self.width && at > x {
                (at, row) = (x, row + 20.0);
            }
            self.shapes.push(Shape::Rect(at, row - 6.0, 12.0, 12.0, key.colour));
            self.styled(at + 18.0, row, key.name.clone(), style::SMALL, style::INK, Anchor::Start, false);
            at += width;
        }
        row - y + 20.0
    }
}

/// About how wide a text is; DejaVu Sans runs wide.
pub(super) fn width_of(text: &str, size: f64) -> f64 {
    text.chars().count() as f64 * size * 0.6
}

/// A text cut to a width, with an ellipsis.
pub(super) fn fitted(text: &str, size: f64, width: f64) -> String {
    let room = (width / (size * 0.6)).floor().max(2.0) as usize;
    if text.chars().count() <= room {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(room - 1).collect();
    cut.truncate(cut.trim_end().len());
    cut.push('…');
    cut
}

/// A round upper end and its step for an axis from 0 to at least `top`.
pub(super) fn nice_axis(top: f64) -> (f64, f64) {
    if !(top > 0.0 && top.is_finite()) {
        return (1.0, 0.5);
    }
    let power = 10f64.powf((top / 4.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| s * 4.0 >= top).unwrap_or(top);
    ((top / step - 1e-9).ceil() * step, step)
}
