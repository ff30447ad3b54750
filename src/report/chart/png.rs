//! A PNG encoder for flat-coloured charts: rows predicted from the row above, repetitions by LZ77, fixed Huffman
//! codes (RFC 1951, 1950, 2083). plotters' own encoder writes to a path, and only `fsio` writes files.

/// An 8-bit RGB image as PNG bytes.
pub(super) fn encode(width: u32, height: u32, rgb: &[u8]) -> Vec<u8> {
    let stride = width as usize * 3;
    let mut rows = Vec::with_capacity((stride + 1) * height as usize);
    for (index, row) in rgb.chunks_exact(stride).enumerate() {
        // Filter 2, "up": what equals the pixel above becomes 0.
        rows.push(2);
        let above = index.checked_sub(1).map(|i| &rgb[i * stride..(i + 1) * stride]);
        rows.extend(row.iter().enumerate().map(|(i, byte)| byte.wrapping_sub(above.map_or(0, |a| a[i]))));
    }
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = Vec::new();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut bytes, b"IHDR", &header);
    chunk(&mut bytes, b"IDAT", &zlib(&rows));
    chunk(&mut bytes, b"IEND", &[]);
    bytes
}

fn chunk(bytes: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    bytes.extend((data.len() as u32).to_be_bytes());
    let start = bytes.len();
    bytes.extend(kind);
    bytes.extend(data);
    let crc = crc32(&bytes[start..]);
    bytes.extend(crc.to_be_bytes());
}

fn crc32(bytes: &[u8]) -> u32 {
    let table: [u32; 256] =
        std::array::from_fn(|i| (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 }));
    !bytes.iter().fold(!0, |crc, &byte| table[((crc ^ u32::from(byte)) & 255) as usize] ^ (crc >> 8))
}

fn adler32(bytes: &[u8]) -> u32 {
    let (mut a, mut b) = (1u32, 0u32);
    for &byte in bytes {
        a = (a + u32::from(byte)) % 65521;
        b = (b + a) % 65521;
    }
    b << 16 | a
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut bits = Bits { bytes: vec![0x78, 0x01], pending: 0, held: 0 };
    // One final block with fixed codes.
    bits.put(0b011, 3);
    // The last place where each (hashed) run of four bytes began.
    let mut last = vec![usize::MAX; 1 << 15];
    let mut at = 0;
    while at < data.len() {
        let mut length = 0;
        let mut distance = 0;
        if at + 4 <= data.len() {
            let word = u32::from_le_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]]);
            let slot = (word.wrapping_mul(0x9e37_79b1) >> 17) as usize;
            let candidate = std::mem::replace(&mut last[slot], at);
            if candidate != usize::MAX && at - candidate <= 32768 {
                let room = (data.len() - at).min(258);
                length = (0..room).take_while(|&i| data[candidate + i] == data[at + i]).count();
                distance = at - candidate;
            }
        }
        if length >= 4 {
            bits.length(length);
            bits.distance(distance);
            at += length;
        } else {
            bits.symbol(u32::from(data[at]));
            at += 1;
        }
    }
    bits.symbol(256);
    bits.flush();
    let mut bytes = bits.bytes;
    bytes.extend(adler32(data).to_be_bytes());
    bytes
}

struct Bits {
    bytes: Vec<u8>,
    pending: u64,
    held: u32,
}

impl Bits {
    fn put(&mut self, value: u32, count: u32) {
        self.pending |= u64::from(value) << self.held;
        self.held += count;
        while self.held >= 8 {
            self.bytes.push(self.pending as u8);
            self.pending >>= 8;
            self.held -= 8;
        }
    }

    /// Huffman codes go in with their first bit first.
    fn code(&mut self, code: u32, count: u32) {
        self.put(code.reverse_bits() >> (32 - count), count);
    }

    /// A literal or length symbol in the fixed code.
    fn symbol(&mut self, symbol: u32) {
        match symbol {
            0..=143 => self.code(0x30 + symbol, 8),
            144..=255 => self.code(0x190 + symbol - 144, 9),
            256..=279 => self.code(symbol - 256, 7),
            _ => self.code(0xc0 + symbol - 280, 8),
        }
    }

    /// Lengths 3–258: symbols 257–285 with extra bits.
    fn length(&mut self, length: usize) {
        if length == 258 {
            return self.symbol(285);
        }
        let (mut symbol, mut base, mut extra) = (257, 3, 0);
        loop {
            // Eight symbols without extra bits, then four of each width.
            let span = 1usize << extra;
            if length < base + span {
                self.symbol(symbol);
                return self.put((length - base) as u32, extra);
            }
            base += span;
            symbol += 1;
            if symbol >= 265 {
                extra = (symbol - 261) / 4;
            }
        }
    }

    /// Distances 1–32768: five-bit codes with extra bits.
    fn distance(&mut self, distance: usize) {
        let (mut code, mut base, mut extra) = (0u32, 1, 0);
        loop {
            let span = 1usize << extra;
            if distance < base + span {
                self.code(code, 5);
                return self.put((distance - base) as u32, extra);
            }
            base += span;
            code += 1;
            if code >= 4 {
                extra = (code - 2) / 2;
            }
        }
    }

    fn flush(&mut self) {
        if self.held > 0 {
            self.bytes.push(self.pending as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_equal_zlibs() {
        // The check values that the CRC catalogue and the Wikipedia article on Adler-32 give.
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(adler32(b"Wikipedia"), 0x11e6_0398);
    }

    #[test]
    fn bytes_are_those_that_python_decoded_to_the_same_pixels() {
        // python: zlib.decompress of the IDAT chunk, filter "up" undone, equal to
        // [(x * y // 7 + 40 * c) % 256 for y in range(60) for x in range(50) for c in range(3)]
        let pixels: Vec<u8> = (0..60 * 50 * 3u32)
            .map(|i| {
                let (c, x, y) = (i % 3, i / 3 % 50, i / 150);
                ((x * y / 7 + 40 * c) % 256) as u8
            })
            .collect();
        let png = encode(50, 60, &pixels);
        assert_eq!(crate::fsio::sha256(&png), "0e42b0d301f0c01ba1854618e8ebc4e99578f6fd3c66fca45a783fadef6750a5");
    }

    #[test]
    fn a_flat_image_is_small() {
        let png = encode(400, 300, &vec![255; 400 * 300 * 3]);
        assert!(png.len() < 400 * 300 * 3 / 50, "{} bytes", png.len());
    }
}
