//! TensorBoard's event files: the metrics of every step as scalars under `train/…`, as HF's callback names them. Holds
//! no clock: an event's wall time is its step, so that the same run writes the same file.
//!
//! ```text
//! record = length (8 bytes) · crc(length) · event · crc(event)        crc is CRC-32C, masked
//! event  = protobuf Event { 1: wall_time, 2: step, 3: file_version | 5: Summary { 1: Value { 1: tag, 2: simple_value } } }
//! ```
//!
//! Written by hand: a crate for it would bring a protobuf compiler for the sake of five fields.

use std::path::Path;

use plumb_engine::stage::StageError;

use super::log::StepRow;

/// The name of the file in the folder: TensorBoard looks for `tfevents`.
const FILE: &str = "events.out.tfevents.0.plumb";

/// Writes the folder that `tensorboard --logdir` reads.
pub fn write(folder: &Path, steps: &[StepRow]) -> Result<(), StageError> {
    std::fs::create_dir_all(folder).map_err(|error| StageError::file("create", folder, &error))?;
    let file = folder.join(FILE);
    std::fs::write(&file, events(steps)).map_err(|error| StageError::file("write", &file, &error))
}

fn events(steps: &[StepRow]) -> Vec<u8> {
    let version = [&double(1, 0.0)[..], &bytes(3, b"brain.Event:2")].concat();
    let mut file = record(&version);
    for row in steps {
        let scalar = |(name, value): (&String, &f64)| {
            bytes(1, &[bytes(1, format!("train/{name}").as_bytes()), float(2, *value as f32)].concat())
        };
        let summary: Vec<u8> = row.metrics.iter().flat_map(scalar).collect();
        file.extend(record(&[double(1, row.step as f64), number(2, row.step), bytes(5, &summary)].concat()));
    }
    file
}

fn record(event: &[u8]) -> Vec<u8> {
    let length = (event.len() as u64).to_le_bytes();
    [&length[..], &masked(&length), event, &masked(event)].concat()
}

// A checksum of bytes that hold their own checksum would be weak: TensorFlow turns it and adds a constant.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

// Castagnoli's polynomial, reflected; bit by bit, for a log is small.
fn crc32c(bytes: &[u8]) -> u32 {
    let byte = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
    };
    !bytes.iter().fold(!0, byte)
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut written = Vec::new();
    while value >= 0x80 {
        written.push(value as u8 | 0x80);
        value >>= 7;
    }
    written.push(value as u8);
    written
}

// A field's key is its number and how it is encoded: 0 varint, 1 eight bytes, 2 length and bytes, 5 four bytes.
fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn double(field: u64, value: f64) -> Vec<u8> {
    [&varint(field << 3 | 1)[..], &value.to_le_bytes()].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [&varint(field << 3 | 2)[..], &varint(value.len() as u64), value].concat()
}

fn float(field: u64, value: f32) -> Vec<u8> {
    [&varint(field << 3 | 5)[..], &value.to_le_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    // What TensorBoard would read: (step, tag, value), after every checksum.
    fn read(mut file: &[u8]) -> Vec<(u64, String, f32)> {
        let mut scalars = Vec::new();
        while !file.is_empty() {
            let length = u64::from_le_bytes(file[..8].try_into().expect("eight bytes")) as usize;
            assert_eq!(file[8..12], masked(&file[..8]));
            let event = &file[12..12 + length];
            assert_eq!(file[12 + length..16 + length], masked(event));
            scalars.extend(read_event(event));
            file = &file[16 + length..];
        }
        scalars
    }

    fn read_event(event: &[u8]) -> Vec<(u64, String, f32)> {
        let fields = fields(event);
        let step = fields.iter().find(|(field, _)| *field == 2).map_or(0, |(_, value)| unvarint(value).0);
        let summaries = fields.iter().filter(|(field, _)| *field == 5).flat_map(|(_, summary)| self::fields(summary));
        let scalar = |(_, value): (u64, Vec<u8>)| {
            let parts = self::fields(&value);
            let tag = String::from_utf8(parts[0].1.clone()).expect("text");
            (step, tag, f32::from_le_bytes(parts[1].1.clone().try_into().expect("four bytes")))
        };
        summaries.map(scalar).collect()
    }

    fn unvarint(bytes: &[u8]) -> (u64, usize) {
        let last = bytes.iter().position(|byte| byte & 0x80 == 0).expect("it ends");
        let value = bytes[..=last].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7f));
        (value, last + 1)
    }

    fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
        let mut found = Vec::new();
        while !message.is_empty() {
            let (key, used) = unvarint(message);
            message = &message[used..];
            let (start, length) = match key & 7 {
                0 => (0, unvarint(message).1),
                1 => (0, 8),
                5 => (0, 4),
                _ => {
                    let (length, used) = unvarint(message);
                    (used, length as usize)
                }
            };
            found.push((key >> 3, message[start..start + length].to_vec()));
            message = &message[start + length..];
        }
        found
    }

    #[test]
    fn what_is_written_is_read_back() {
        let row = |step: u64| StepRow {
            step,
            metrics: [("loss".to_string(), 1.5 / step as f64), ("rewards/label/mean".to_string(), -0.25)].into(),
        };
        let steps: Vec<StepRow> = [1, 2, 300].map(row).into();
        let expected: Vec<(u64, String, f32)> = [1u64, 2, 300]
            .into_iter()
            .flat_map(|step| {
                [
                    (step, "train/loss".to_string(), 1.5 / step as f32),
                    (step, "train/rewards/label/mean".to_string(), -0.25),
                ]
            })
            .collect();
        assert_eq!(read(&events(&steps)), expected);
    }
}
