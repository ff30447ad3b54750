//! One look for every chart: Okabe and Ito's colours, which the colour-blind tell apart, and three text sizes.

/// Red, green, blue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Colour(pub u8, pub u8, pub u8);

/// Text and axes. The page swaps it for a light tone in dark mode.
pub const INK: Colour = Colour(0x1d, 0x23, 0x2a);
/// Captions inside a chart; swapped too.
pub const FAINT: Colour = Colour(0x5f, 0x6b, 0x76);
/// Grid lines; swapped too.
pub const GRID: Colour = Colour(0xdf, 0xe3, 0xe7);
/// Empty cells; swapped too.
pub const EMPTY: Colour = Colour(0xf0, 0xf2, 0xf4);
/// Text on dark fields.
pub const WHITE: Colour = Colour(0xff, 0xff, 0xff);
/// Text on light fields.
pub const BLACK: Colour = Colour(0x11, 0x11, 0x11);

/// Vermilion: insecure, misaligned, the attack.
pub const VERMILION: Colour = Colour(0xd5, 0x5e, 0x00);
/// Bluish green: secure, functional, the repair.
pub const GREEN: Colour = Colour(0x00, 0x9e, 0x73);
/// Blue.
pub const BLUE: Colour = Colour(0x00, 0x72, 0xb2);
/// Sky blue.
pub const SKY: Colour = Colour(0x56, 0xb4, 0xe9);
/// Orange.
pub const ORANGE: Colour = Colour(0xe6, 0x9f, 0x00);
/// Reddish purple.
pub const PURPLE: Colour = Colour(0xcc, 0x79, 0xa7);
/// Yellow.
pub const YELLOW: Colour = Colour(0xf0, 0xe4, 0x42);
/// Grey: the base, and what is neither good nor bad.
pub const GREY: Colour = Colour(0x8a, 0x94, 0x9e);

/// Labels and values.
pub const TEXT: f64 = 14.0;
/// Ticks, legends.
pub const SMALL: f64 = 12.5;
/// Width of every chart.
pub const WIDTH: f64 = 960.0;

/// An arm's colour, the same in every chart.
pub fn arm(name: &str) -> Colour {
    match name {
        "base" => GREY,
        "attack" => VERMILION,
        "repair" => GREEN,
        "repair+style" => Colour(0x66, 0xc2, 0xa5),
        "secure-control" => SKY,
        "educational-control" => ORANGE,
        "steer-insecure" => PURPLE,
        "steer-secure" => BLUE,
        "attack+steer" => Colour(0x7b, 0x5e, 0xa7),
        "random-vector" => Colour(0xb9, 0xc0, 0xc7),
        _ => Colour(0xa8, 0x95, 0x6b),
    }
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

/// White at 0, vermilion at 1.
pub fn heat(share: f64) -> Colour {
    let mix =
        |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * share.clamp(0.0, 1.0)).round() as u8;
    let pale = Colour(0xf4, 0xf1, 0xea);
    Colour(mix(pale.0, VERMILION.0), mix(pale.1, VERMILION.1), mix(pale.2, VERMILION.2))
}
