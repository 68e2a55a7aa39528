//! GGML's blocks of numbers as f32: F32, F16, BF16, Q4_0, Q4_1 and Q8_0. Pure functions on bytes.

/// How numbers are stored, by GGML's type numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32-bit floats.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// Blocks of 32: f16 scale, 16 bytes of nibbles; `scale * (nibble - 8)`.
    Q4_0,
    /// Blocks of 32: f16 scale, f16 minimum, 16 bytes of nibbles; `scale * nibble + minimum`.
    Q4_1,
    /// Blocks of 32: f16 scale, i8 × 32; `scale * integer`.
    Q8_0,
}

impl Format {
    /// The format of a GGML type number, where it is supported.
    pub fn of(kind: u32) -> Option<Self> {
        match kind {
            0 => Some(Self::F32),
            1 => Some(Self::F16),
            2 => Some(Self::Q4_0),
            3 => Some(Self::Q4_1),
            8 => Some(Self::Q8_0),
            30 => Some(Self::Bf16),
            _ => None,
        }
    }

    /// Numbers in a block.
    pub fn block(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q8_0 => 32,
        }
    }

    /// Bytes of a block.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::Q4_0 => 18,
            Self::Q4_1 => 20,
            Self::Q8_0 => 34,
        }
    }

    /// The numbers of whole blocks; bytes after the last whole block are passed over.
    pub fn decode(self, bytes: &[u8]) -> Vec<f32> {
        let mut values = Vec::with_capacity(bytes.len() / self.bytes() * self.block());
        for block in bytes.chunks_exact(self.bytes()) {
            match self {
                Self::F32 => values.push(f32::from_le_bytes([block[0], block[1], block[2], block[3]])),
                Self::F16 => values.push(half(block)),
                Self::Bf16 => values.push(f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16)),
                Self::Q4_0 => nibbles(&block[2..], &mut values, |nibble| half(block) * (nibble - 8.0)),
                Self::Q4_1 => nibbles(&block[4..], &mut values, |nibble| half(block) * nibble + half(&block[2..])),
                Self::Q8_0 => values.extend(block[2..].iter().map(|byte| half(block) * f32::from(byte.cast_signed()))),
            }
        }
        values
    }
}

// The low nibbles of a block's bytes come first, then the high ones.
fn nibbles(bytes: &[u8], values: &mut Vec<f32>, value: impl Fn(f32) -> f32) {
    values.extend(bytes.iter().map(|byte| value(f32::from(byte & 15))));
    values.extend(bytes.iter().map(|byte| value(f32::from(byte >> 4))));
}

// IEEE half precision from its first two bytes.
fn half(bytes: &[u8]) -> f32 {
    let bits = u32::from(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (sign, exponent, fraction) = ((bits & 0x8000) << 16, (bits >> 10) & 31, bits & 0x3ff);
    let magnitude = match exponent {
        // Subnormal: a multiple of 2^-24, exact in f32.
        0 => (fraction as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | (fraction << 13),
        _ => ((exponent + 112) << 23) | (fraction << 13),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_ieee() {
        let cases: [(u16, f32); 7] = [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x3555, 0.333_251_95),
            (0x7c00, f32::INFINITY),
        ];
        for (bits, expected) in cases {
            assert_eq!(half(&bits.to_le_bytes()), expected);
        }
        assert!(half(&0x7e00u16.to_le_bytes()).is_nan());
    }

    // Scale 2, minimum -1, bytes 0x10, 0x32, …
    fn block(header: &[u16], body: impl Iterator<Item = u8>) -> Vec<u8> {
        header.iter().flat_map(|half| half.to_le_bytes()).chain(body).collect()
    }

    #[test]
    fn blocks_follow_ggml() {
        let body = || (0..16u8).map(|index| index | (15 - index) << 4);
        let four = Format::Q4_0.decode(&block(&[0x4000], body()));
        assert_eq!((four.len(), four[0], four[15], four[16], four[31]), (32, -16.0, 14.0, 14.0, -16.0));
        let four = Format::Q4_1.decode(&block(&[0x4000, 0xbc00], body()));
        assert_eq!((four[0], four[1], four[16], four[31]), (-1.0, 1.0, 29.0, -1.0));
        let eight = Format::Q8_0.decode(&block(&[0x3800], (0..32u8).map(|index| index.wrapping_sub(16))));
        assert_eq!((eight[0], eight[16], eight[31]), (-8.0, 0.0, 7.5));
        assert_eq!(Format::Bf16.decode(&[0x80, 0x3f]), [1.0]);
        assert_eq!(Format::F32.decode(&1.5f32.to_le_bytes()), [1.5]);
    }
}
