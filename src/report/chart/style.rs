//! One look for every chart: Okabe and Ito's colours, which the colour-blind tell apart, and three text sizes.

/// A colour as red, green and blue, 0 to 255 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

/// Text and axes. The page swaps it for a light tone in dark mode.
pub const INK: Colour = Colour(0x1d, 0x23, 0x2a);
/// Captions inside a chart; swapped too.
pub const FAINT: Colour = Colour(0x5f, 0x6b, 0x76);
/// Grid lines; the page swaps this colour in dark mode too.
pub const GRID: Colour = Colour(0xdf, 0xe3, 0xe7);
/// Cells without a value; swapped in dark mode too.
pub const EMPTY: Colour = Colour(0xf0, 0xf2, 0xf4);
/// Text on dark areas.
pub const WHITE: Colour = Colour(0xff, 0xff, 0xff);
/// Text on light areas.
pub const BLACK: Colour = Colour(0x11, 0x11, 0x11);

/// Vermilion, for insecure and misaligned.
pub const VERMILION: Colour = Colour(0xd5, 0x5e, 0x00);
/// Bluish green, for secure and functional.
pub const GREEN: Colour = Colour(0x00, 0x9e, 0x73);
/// Blue of the Okabe-Ito palette.
pub const BLUE: Colour = Colour(0x00, 0x72, 0xb2);
/// Sky blue of the Okabe-Ito palette.
pub const SKY: Colour = Colour(0x56, 0xb4, 0xe9);
/// Orange of the Okabe-Ito palette.
pub const ORANGE: Colour = Colour(0xe6, 0x9f, 0x00);
/// Reddish purple of the Okabe-Ito palette.
pub const PURPLE: Colour = Colour(0xcc, 0x79, 0xa7);
/// Yellow of the Okabe-Ito palette.
pub const YELLOW: Colour = Colour(0xf0, 0xe4, 0x42);
/// Grey: the base, and what is neither good nor bad.
pub const GREY: Colour = Colour(0x8a, 0x94, 0x9e);

/// Font size of labels and values, in page pixels.
pub const TEXT: f64 = 14.0;
/// Font size of ticks and legends, in page pixels.
pub const SMALL: f64 = 12.5;
/// Width of every chart, in page pixels.
pub const WIDTH: f64 = 960.0;

/// A colour for each arm: the one given as `#rrggbb`, else the first of a palette that no other arm's colour comes near.
pub fn arm_colours(given: &[&str]) -> Vec<Colour> {
    const PALETTE: [Colour; 7] = [VERMILION, GREEN, BLUE, ORANGE, PURPLE, SKY, YELLOW];
    let pale = PALETTE.map(|c| mix(c, WHITE, 0.45));
    let dark = PALETTE.map(|c| mix(c, BLACK, 0.4));
    let palette: Vec<Colour> = PALETTE.into_iter().chain(pale).chain(dark).collect();
    let mut taken: Vec<Colour> = given.iter().filter_map(|text| parse(text)).collect();
    let mut colours = Vec::new();
    for (index, text) in given.iter().enumerate() {
        let colour = parse(text).unwrap_or_else(|| {
            let free = palette.iter().find(|c| taken.iter().all(|t| distance(**c, *t) > 60.0)).copied();
            // With more arms than the palette has colours, colours come again.
            let colour = free.unwrap_or(palette[index % palette.len()]);
            taken.push(colour);
            colour
        });
        colours.push(colour);
    }
    colours
}

/// Reads a colour written as `#rrggbb`.
fn parse(text: &str) -> Option<Colour> {
    let digits = text.strip_prefix('#').filter(|d| d.len() == 6 && d.bytes().all(|b| b.is_ascii_hexdigit()))?;
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Some(Colour(part(0)?, part(2)?, part(4)?))
}

fn mix(from: Colour, to: Colour, share: f64) -> Colour {
    let part = |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * share).round() as u8;
    Colour(part(from.0, to.0), part(from.1, to.1), part(from.2, to.2))
}

fn distance(a: Colour, b: Colour) -> f64 {
    let square = |a: u8, b: u8| (f64::from(a) - f64::from(b)).powi(2);
    (square(a.0, b.0) + square(a.1, b.1) + square(a.2, b.2)).sqrt()
}

/// A colour for the i-th of several series without a meaning of their own.
pub fn series(index: usize) -> Colour {
    const SERIES: [Colour; 7] = [VERMILION, BLUE, GREEN, ORANGE, PURPLE, SKY, GREY];
    SERIES[index % SERIES.len()]
}

/// Black or white, whichever reads better on `field`.
pub fn text_on(field: Colour) -> Colour {
    let light = 0.299 * f64::from(field.0) + 0.587 * f64::from(field.1) + 0.114 * f64::from(field.2);
    if light > 150.0 { BLACK } else { WHITE }
}

/// A pale tone at 0, vermilion at 1.
pub fn heat(share: f64) -> Colour {
    mix(Colour(0xf4, 0xf1, 0xea), VERMILION, share.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_without_a_colour_get_one_that_no_other_arm_has() {
        let given = ["#8a949e", "", "#D55E00", "", "red", "\"><script>", ""];
        let colours = arm_colours(&given);
        assert_eq!((colours[0], colours[2]), (GREY, VERMILION));
        for (i, a) in colours.iter().enumerate() {
            assert!(colours[i + 1..].iter().all(|b| distance(*a, *b) > 40.0), "{colours:?}");
        }
        assert_eq!(arm_colours(&[""; 40]).len(), 40);
    }
}
