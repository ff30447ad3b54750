//! Pixels as a PNG. plotters' own encoder writes to a path, and only `fsio` writes files.

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError, Filter};

use crate::error::{Error, Result};

/// An 8-bit RGB image, rows from the top, as PNG bytes.
///
/// # Errors
/// Where `rgb` does not hold `width × height × 3` bytes.
pub(super) fn encode(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>> {
    let failed = |e: EncodingError| Error::internal(format!("a chart cannot be written as a PNG: {e}"));
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Balanced);
    // Charts are flat: what equals the pixel above becomes 0.
    encoder.set_filter(Filter::Up);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(rgb).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// (width, height) and the pixels that a PNG decodes to.
    pub fn decoded(bytes: &[u8]) -> ((u32, u32), Vec<u8>) {
        let mut reader = png::Decoder::new(std::io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.color_type, info.bit_depth), (ColorType::Rgb, BitDepth::Eight));
        ((info.width, info.height), pixels)
    }

    #[test]
    fn every_pixel_comes_back() {
        let pixels: Vec<u8> = (0..60 * 50 * 3u32)
            .map(|i| {
                let (c, x, y) = (i % 3, i / 3 % 50, i / 150);
                ((x * y / 7 + 40 * c) % 256) as u8
            })
            .collect();
        assert_eq!(decoded(&encode(50, 60, &pixels).unwrap()), ((50, 60), pixels));
    }

    #[test]
    fn a_flat_image_is_small() {
        let png = encode(400, 300, &vec![255; 400 * 300 * 3]).unwrap();
        assert!(png.len() < 400 * 300 * 3 / 50, "{} bytes", png.len());
    }

    #[test]
    fn pixels_that_do_not_fill_the_image_are_refused() {
        assert!(encode(4, 4, &[0; 47]).unwrap_err().to_string().contains("cannot be written as a PNG"));
    }
}
