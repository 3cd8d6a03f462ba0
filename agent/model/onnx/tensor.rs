//! Values of a tensor in the usual storage forms.
//!
//! Reads what `raw_data` or the typed members hold and nothing else: data outside the file reads as `None`, and so does
//! a tensor whose data do not fit its shape.

use super::{TensorProto, data_type as dt};

/// Bits that a value of this type takes in `raw_data`. `None` for strings, complex numbers and unknown types.
#[must_use]
pub fn bits(data_type: i32) -> Option<u64> {
    match data_type {
        dt::UINT4 | dt::INT4 | dt::FLOAT4E2M1 => Some(4),
        dt::UINT8
        | dt::INT8
        | dt::BOOL
        | dt::FLOAT8E4M3FN
        | dt::FLOAT8E4M3FNUZ
        | dt::FLOAT8E5M2
        | dt::FLOAT8E5M2FNUZ => Some(8),
        dt::UINT16 | dt::INT16 | dt::FLOAT16 | dt::BFLOAT16 => Some(16),
        dt::FLOAT | dt::INT32 | dt::UINT32 => Some(32),
        dt::DOUBLE | dt::INT64 | dt::UINT64 => Some(64),
        _ => None,
    }
}

impl TensorProto {
    /// A FLOAT tensor in `raw_data`. Whether `dims` fits `values` is up to the caller.
    #[must_use]
    pub fn of_f32(name: &str, dims: &[i64], values: &[f32]) -> Self {
        Self::raw(name, dims, dt::FLOAT, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    /// An INT64 tensor in `raw_data`. Whether `dims` fits `values` is up to the caller.
    #[must_use]
    pub fn of_i64(name: &str, dims: &[i64], values: &[i64]) -> Self {
        Self::raw(name, dims, dt::INT64, values.iter().flat_map(|value| value.to_le_bytes()).collect())
    }

    fn raw(name: &str, dims: &[i64], data_type: i32, raw: Vec<u8>) -> Self {
        Self { name: name.to_owned(), dims: dims.to_vec(), data_type, raw_data: Some(raw), ..Self::default() }
    }

    /// Number of elements. `None` where a dimension is negative or the product is over `u64`.
    #[must_use]
    pub fn elements(&self) -> Option<u64> {
        elements(&self.dims)
    }

    /// Values as integers: INT64, INT32 and the smaller integer types.
    #[must_use]
    pub fn to_i64s(&self) -> Option<Vec<i64>> {
        let raw = self.raw_data.as_deref();
        let values: Vec<i64> = match (self.data_type, raw) {
            (dt::INT64, Some(raw)) => words(raw, i64::from_le_bytes),
            (dt::INT32, Some(raw)) => words(raw, |word| i64::from(i32::from_le_bytes(word))),
            (dt::INT16, Some(raw)) => words(raw, |word| i64::from(i16::from_le_bytes(word))),
            (dt::UINT16, Some(raw)) => words(raw, |word| i64::from(u16::from_le_bytes(word))),
            (dt::INT8, Some(raw)) => words(raw, |word| i64::from(i8::from_le_bytes(word))),
            (dt::UINT8 | dt::BOOL, Some(raw)) => words(raw, |word| i64::from(u8::from_le_bytes(word))),
            (dt::INT64, None) => self.int64_data.clone(),
            (dt::INT32 | dt::INT16 | dt::UINT16 | dt::INT8 | dt::UINT8 | dt::BOOL, None) => {
                self.int32_data.iter().map(|value| i64::from(*value)).collect()
            }
            _ => return None,
        };
        self.whole(values)
    }

    /// Values as floats: FLOAT, DOUBLE (rounded), FLOAT16 and BFLOAT16.
    #[must_use]
    pub fn to_f32s(&self) -> Option<Vec<f32>> {
        let raw = self.raw_data.as_deref();
        #[allow(clippy::cast_possible_truncation, reason = "a double is rounded to the nearest float")]
        let values: Vec<f32> = match (self.data_type, raw) {
            (dt::FLOAT, Some(raw)) => words(raw, f32::from_le_bytes),
            (dt::DOUBLE, Some(raw)) => words(raw, |word| f64::from_le_bytes(word) as f32),
            (dt::FLOAT16, Some(raw)) => words(raw, |word| half(u16::from_le_bytes(word))),
            (dt::BFLOAT16, Some(raw)) => words(raw, |word| brain(u16::from_le_bytes(word))),
            (dt::FLOAT, None) => self.float_data.clone(),
            (dt::DOUBLE, None) => self.double_data.iter().map(|value| *value as f32).collect(),
            (dt::FLOAT16, None) => self.int32_data.iter().map(|value| half(low(*value))).collect(),
            (dt::BFLOAT16, None) => self.int32_data.iter().map(|value| brain(low(*value))).collect(),
            _ => return None,
        };
        self.whole(values)
    }

    fn whole<T>(&self, values: Vec<T>) -> Option<Vec<T>> {
        let elements = self.elements()?;
        let raw_fits = self.raw_data.as_ref().is_none_or(|raw| {
            bits(self.data_type).and_then(|bits| elements.checked_mul(bits / 8)) == u64::try_from(raw.len()).ok()
        });
        (raw_fits && Some(elements) == u64::try_from(values.len()).ok()).then_some(values)
    }
}

/// Product of dimensions. `None` where one is negative or the product is over `u64`; a zero hides no overflow.
#[must_use]
pub fn elements(dims: &[i64]) -> Option<u64> {
    let mut product = 1_u64;
    for dim in dims {
        product = product.checked_mul(u64::try_from(*dim).ok()?.max(1))?;
    }
    Some(if dims.contains(&0) { 0 } else { product })
}

/// Leaves out bytes left over at the end: [`TensorProto::whole`] sees them.
fn words<const N: usize, T>(raw: &[u8], read: impl Fn([u8; N]) -> T) -> Vec<T> {
    raw.as_chunks::<N>().0.iter().map(|word| read(*word)).collect()
}

/// `int32_data` holds the bits of a 16-bit float in its low half.
fn low(value: i32) -> u16 {
    let [first, second, ..] = value.to_le_bytes();
    u16::from_le_bytes([first, second])
}

fn brain(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

fn half(bits: u16) -> f32 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let fraction = f32::from(bits & 0x3ff) / 1024.0;
    match bits >> 10 & 0x1f {
        0 => sign * fraction * f32::powi(2.0, -14),
        31 if fraction == 0.0 => sign * f32::INFINITY,
        31 => f32::NAN,
        exponent => sign * (1.0 + fraction) * f32::powi(2.0, i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "these values are exact")]
    fn reads_every_storage_form() {
        assert_eq!(TensorProto::of_i64("a", &[2], &[-1, i64::MAX]).to_i64s(), Some(vec![-1, i64::MAX]));
        assert_eq!(TensorProto::of_f32("a", &[2], &[0.5, -2.0]).to_f32s(), Some(vec![0.5, -2.0]));
        let typed = TensorProto { dims: vec![1], data_type: dt::INT32, int32_data: vec![-7], ..TensorProto::default() };
        assert_eq!(typed.to_i64s(), Some(vec![-7]));
        let half = TensorProto {
            dims: vec![4],
            data_type: dt::FLOAT16,
            int32_data: vec![0x3c00, 0xc000, 0x0001, 0x7c00],
            ..TensorProto::default()
        };
        assert_eq!(half.to_f32s(), Some(vec![1.0, -2.0, f32::powi(2.0, -24), f32::INFINITY]));
    }

    #[test]
    fn data_that_do_not_fit_the_shape_read_as_none() {
        assert_eq!(TensorProto::of_i64("a", &[3], &[1, 2]).to_i64s(), None);
        let mut torn = TensorProto::of_i64("a", &[1], &[1]);
        torn.raw_data.as_mut().unwrap().push(0);
        assert_eq!(torn.to_i64s(), None);
        assert_eq!(TensorProto::of_f32("a", &[-1], &[1.0]).to_f32s(), None);
        assert_eq!(elements(&[0, i64::MAX, i64::MAX]), None);
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[4, 0]), Some(0));
    }
}
