//! Shapes onto paper, through plotters: SVG as text, PNG as bytes.
//!
//! Both are painted at twice the page size, so that half pixels stay sharp.

use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, register_font};

use super::style::Colour;
use super::{Anchor, Scene, Shape, png};
use crate::error::{Error, Result};
use crate::report::words::one_line;

/// DejaVu Sans, which charts are set in on every machine.
pub const FONT_REGULAR: &[u8] = include_bytes!("../fonts/DejaVuSans.ttf");
/// DejaVu Sans Bold.
pub const FONT_BOLD: &[u8] = include_bytes!("../fonts/DejaVuSans-Bold.ttf");

const FAMILY: &str = "DejaVu Sans";
const SCALE: f64 = 2.0;

/// An SVG document that scales with its frame. `title` is read out by screen readers.
pub fn svg(scene: &Scene, title: &str) -> Result<String> {
    let mut text = String::new();
    let size = pixels(scene);
    paint(SVGBackend::with_string(&mut text, size), scene, 0.0)?;
    let body = text.split_once('>').map_or("", |(_, body)| body);
    let body = body.replace("font-family=\"DejaVu Sans\"", "font-family=\"DejaVu Sans, Verdana, sans-serif\"");
    let title = one_line(title).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
    Ok(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{title}\">{body}",
        size.0, size.1
    ))
}

/// Paints a chart as a PNG with a white background.
pub fn png(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = pixels(scene);
    png::encode(width, height, &raster(scene)?)
}

/// The chart on white, 8-bit RGB, rows from the top.
fn raster(scene: &Scene) -> Result<Vec<u8>> {
    let (width, height) = pixels(scene);
    let mut rgb = vec![255; width as usize * height as usize * 3];
    // plotters centres the box from the first glyph's top to the last one's foot, which sits a little high.
    paint(BitMapBackend::with_buffer(&mut rgb, (width, height)), scene, 0.16)?;
    Ok(rgb)
}

fn pixels(scene: &Scene) -> (u32, u32) {
    ((scene.width * SCALE).ceil() as u32, (scene.height * SCALE).ceil() as u32)
}

/// `sink` lowers every text by this share of its size.
fn paint<B: DrawingBackend>(mut backend: B, scene: &Scene, sink: f64) -> Result<()> {
    for (style, bytes) in [(FontStyle::Normal, FONT_REGULAR), (FontStyle::Bold, FONT_BOLD)] {
        register_font(FAMILY, style, bytes).map_err(|_| Error::internal("the bundled chart font cannot be read"))?;
    }
    for shape in &scene.shapes {
        paint_shape(&mut backend, shape, sink).map_err(failed)?;
    }
    backend.present().map_err(|e| failed(e.to_string()))
}

fn failed(message: String) -> Error {
    Error::internal(format!("a chart cannot be drawn: {message}"))
}

fn rgb(colour: Colour) -> RGBColor {
    RGBColor(colour.0, colour.1, colour.2)
}

fn point((x, y): (f64, f64)) -> (i32, i32) {
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

fn paint_shape<B: DrawingBackend>(backend: &mut B, shape: &Shape, sink: f64) -> std::result::Result<(), String> {
    let painted = match shape {
        Shape::Rect(x, y, width, height, colour) => {
            backend.draw_rect(point((*x, *y)), point((x + width, y + height)), &rgb(*colour), true)
        }
        Shape::Line(points, colour, width) => {
            let style =
                ShapeStyle { color: rgb(*colour).to_rgba(), filled: false, stroke_width: (width * SCALE) as u32 };
            backend.draw_path(points.iter().copied().map(point), &style)
        }
        Shape::Area(points, colour, opacity) => {
            backend.fill_polygon(points.iter().copied().map(point), &rgb(*colour).mix(*opacity))
        }
        Shape::Dot(x, y, radius, colour) => {
            backend.draw_circle(point((*x, *y)), (radius * SCALE).round() as u32, &rgb(*colour), true)
        }
        Shape::Text { x, y, text, size, colour, anchor, bold } => {
            let weight = if *bold { FontStyle::Bold } else { FontStyle::Normal };
            let horizontal = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            // plotters divides by 1.24 on the way to SVG.
            let font = (FAMILY, size * SCALE * 1.24, weight).into_font();
            let ink = rgb(*colour);
            let style = TextStyle::from(font).color(&ink).pos(Pos::new(horizontal, VPos::Center));
            // XML has no place for control characters, and a chart none for a second line.
            backend.draw_text(&one_line(text), &style, point((*x, y + sink * size)))
        }
    };
    painted.map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::report::chart::png::tests::decoded;
    use crate::report::chart::style::{BLUE, INK, VERMILION};

    /// A bar, a line and words.
    fn scene() -> Scene {
        let mut scene = Scene::new(90.0, 40.0);
        scene.shapes.push(Shape::Rect(10.0, 5.0, 30.0, 20.0, VERMILION));
        scene.line(vec![(0.0, 30.0), (90.0, 38.0)], BLUE, 1.0);
        scene.text(45.0, 15.0, "a & <b>", Anchor::Start);
        scene
    }

    #[test]
    fn a_png_decodes_to_the_pixels_that_were_drawn() {
        let drawn = raster(&scene()).unwrap();
        let ((width, height), pixels) = decoded(&png(&scene()).unwrap());
        assert_eq!((width, height), (180, 80), "twice the page size");
        assert!(pixels == drawn, "{} bytes drawn, {} decoded", drawn.len(), pixels.len());
        let at = |x: usize, y: usize| {
            let start = 3 * (y * width as usize + x);
            Colour(pixels[start], pixels[start + 1], pixels[start + 2])
        };
        assert_eq!((at(50, 30), at(0, 0)), (VERMILION, Colour(255, 255, 255)));
        assert!((90..180).any(|x| (20..40).any(|y| at(x, y) == INK)), "the words are drawn");
    }

    #[test]
    fn words_in_a_chart_are_text_and_stay_on_one_line() {
        let mut scene = scene();
        scene.text(5.0, 5.0, "a\u{1}b\n</svg><script>\u{202e}|`", Anchor::Start);
        let svg = svg(&scene, "t\0\"><script>").unwrap();
        assert!(svg.contains("a &amp; &lt;b&gt;") && svg.contains("a b &lt;/svg&gt;&lt;script&gt; |`"), "{svg}");
        assert!(!svg.contains("<script") && !svg.contains(['\u{1}', '\0', '\u{202e}']), "{svg}");
    }
}
