//! TensorBoard's event files: TFRecords (length, its CRC, data, its CRC; CRC-32C, masked) of `Event` messages in protobuf's
//! wire form. Only what a curve needs is encoded.
//!
//! ```text
//! Event      { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; SessionLog session_log = 7 }
//! Summary    { repeated Value value = 1 }      Value { string tag = 1; float simple_value = 2 }
//! SessionLog { SessionStatus status = 1 }      START = 1
//! ```

/// What an event file begins with. `step` is the first that it will hold: what other files of the folder say of this step
/// and later ones is void, since a training that was stopped has gone back to its checkpoint.
pub fn begin(wall_time: f64, step: u64) -> Vec<u8> {
    let mut version = event_head(wall_time, 0);
    field_bytes(&mut version, 3, b"brain.Event:2");
    let mut start = event_head(wall_time, step);
    field_bytes(&mut start, 7, &[1 << 3, 1]);
    [record(&version), record(&start)].concat()
}

/// A TensorBoard event record with one scalar per name.
pub fn scalars(wall_time: f64, step: u64, values: &[(&str, f64)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut entry = Vec::new();
        field_bytes(&mut entry, 1, tag.as_bytes());
        entry.push(2 << 3 | 5);
        entry.extend((*value as f32).to_le_bytes());
        field_bytes(&mut summary, 1, &entry);
    }
    let mut event = event_head(wall_time, step);
    field_bytes(&mut event, 5, &summary);
    record(&event)
}

fn event_head(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(wall_time.to_le_bytes());
    if step > 0 {
        event.push(2 << 3);
        varint(&mut event, step);
    }
    event
}

/// A field of bytes: a string or a message within a message.
fn field_bytes(message: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    message.push(number << 3 | 2);
    varint(message, bytes.len() as u64);
    message.extend(bytes);
}

fn varint(message: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        message.push(value as u8 | 0x80);
        value >>= 7;
    }
    message.push(value as u8);
}

fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(data);
    record.extend(masked_crc(data).to_le_bytes());
    record
}

/// A CRC as TFRecord stores it, rotated and offset ("masked"), since the CRC of data that holds its own CRC is weak.
pub fn masked_crc(data: &[u8]) -> u32 {
    crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), bit by bit: an event has some two hundred bytes.
fn crc32c(data: &[u8]) -> u32 {
    let mut crc = !0;
    for &byte in data {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crc_is_castagnolis() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
