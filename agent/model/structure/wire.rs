//! A walk over the bytes of a model before anything is decoded.
//!
//! Guarantees that every byte belongs to a field that ONNX defines, with the wire type that ONNX defines, so that two
//! readers cannot see two different models; that no tensor anywhere points outside the file; and that decoding takes
//! a bounded amount of memory and stack. It does not look at what names and numbers mean.
//!
//! Two bytes of an empty node become some hundred bytes of memory, so the file size alone bounds nothing.

use super::{Limits, StructureError};

/// The most that one message of [`crate::model::onnx`] takes by itself; a test holds this to the truth.
pub(super) const MESSAGE_COST: u64 = 512;
const TEXT_COST: u64 = 32;
const NUMBER_COST: u64 = 8;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Model,
    OperatorSet,
    Entry,
    Graph,
    Node,
    Attribute,
    Tensor,
    Segment,
    Sparse,
    ValueInfo,
    Annotation,
    Training,
    Function,
    Shape,
    Dimension,
    Type,
    TensorType,
    ElementType,
    MapType,
    Opaque,
    Device,
    NodeDevice,
    Sharding,
    IntList,
    ShardedDim,
    SimpleSharding,
}

#[derive(Clone, Copy)]
enum Field {
    Message(Kind),
    Text,
    /// One varint.
    Number,
    /// Varints, packed or one by one.
    Numbers,
    Fixed32,
    Fixed64,
}

/// The fields of ONNX IR version 13.
#[allow(clippy::match_same_arms, reason = "a table, message by message as in onnx.proto3")]
fn field(kind: Kind, tag: u64) -> Option<Field> {
    use Field::{Fixed32, Fixed64, Message, Number, Numbers, Text};
    Some(match (kind, tag) {
        (Kind::Model, 1 | 5) => Number,
        (Kind::Model, 2..=4 | 6) => Text,
        (Kind::Model, 7) => Message(Kind::Graph),
        (Kind::Model, 8) => Message(Kind::OperatorSet),
        (Kind::Model, 14) => Message(Kind::Entry),
        (Kind::Model, 20) => Message(Kind::Training),
        (Kind::Model, 25) => Message(Kind::Function),
        (Kind::Model, 26) => Message(Kind::Device),
        (Kind::OperatorSet, 1) => Text,
        (Kind::OperatorSet, 2) => Number,
        (Kind::Entry, 1 | 2) => Text,
        (Kind::Graph, 1) => Message(Kind::Node),
        (Kind::Graph, 2 | 10) => Text,
        (Kind::Graph, 5) => Message(Kind::Tensor),
        (Kind::Graph, 15) => Message(Kind::Sparse),
        (Kind::Graph, 11..=13) => Message(Kind::ValueInfo),
        (Kind::Graph, 14) => Message(Kind::Annotation),
        (Kind::Graph, 16) => Message(Kind::Entry),
        (Kind::Node, 1..=4 | 6..=8) => Text,
        (Kind::Node, 5) => Message(Kind::Attribute),
        (Kind::Node, 9) => Message(Kind::Entry),
        (Kind::Node, 10) => Message(Kind::NodeDevice),
        (Kind::Attribute, 1 | 4 | 9 | 13 | 21) => Text,
        (Kind::Attribute, 2 | 7) => Fixed32,
        (Kind::Attribute, 3 | 20) => Number,
        (Kind::Attribute, 8) => Numbers,
        (Kind::Attribute, 5 | 10) => Message(Kind::Tensor),
        (Kind::Attribute, 6 | 11) => Message(Kind::Graph),
        (Kind::Attribute, 22 | 23) => Message(Kind::Sparse),
        (Kind::Attribute, 14 | 15) => Message(Kind::Type),
        (Kind::Tensor, 1 | 5 | 7 | 11) => Numbers,
        (Kind::Tensor, 2 | 14) => Number,
        (Kind::Tensor, 3) => Message(Kind::Segment),
        (Kind::Tensor, 4) => Fixed32,
        (Kind::Tensor, 10) => Fixed64,
        (Kind::Tensor, 6 | 8 | 9 | 12) => Text,
        (Kind::Tensor, 13 | 16) => Message(Kind::Entry),
        (Kind::Segment, 1 | 2) => Number,
        (Kind::Sparse, 1 | 2) => Message(Kind::Tensor),
        (Kind::Sparse, 3) => Numbers,
        (Kind::ValueInfo, 1 | 3) => Text,
        (Kind::ValueInfo, 2) => Message(Kind::Type),
        (Kind::ValueInfo, 4) => Message(Kind::Entry),
        (Kind::Annotation, 1) => Text,
        (Kind::Annotation, 2) => Message(Kind::Entry),
        (Kind::Training, 1 | 2) => Message(Kind::Graph),
        (Kind::Training, 3 | 4) => Message(Kind::Entry),
        (Kind::Function, 1 | 4..=6 | 8 | 10 | 13) => Text,
        (Kind::Function, 7) => Message(Kind::Node),
        (Kind::Function, 9) => Message(Kind::OperatorSet),
        (Kind::Function, 11) => Message(Kind::Attribute),
        (Kind::Function, 12) => Message(Kind::ValueInfo),
        (Kind::Function, 14) => Message(Kind::Entry),
        (Kind::Shape, 1) => Message(Kind::Dimension),
        (Kind::Dimension, 1) => Number,
        (Kind::Dimension, 2 | 3) => Text,
        (Kind::Type, 1 | 8) => Message(Kind::TensorType),
        (Kind::Type, 4 | 9) => Message(Kind::ElementType),
        (Kind::Type, 5) => Message(Kind::MapType),
        (Kind::Type, 6) => Text,
        (Kind::Type, 7) => Message(Kind::Opaque),
        (Kind::TensorType, 1) => Number,
        (Kind::TensorType, 2) => Message(Kind::Shape),
        (Kind::ElementType, 1) => Message(Kind::Type),
        (Kind::MapType, 1) => Number,
        (Kind::MapType, 2) => Message(Kind::Type),
        (Kind::Opaque, 1 | 2) => Text,
        (Kind::Device, 1 | 3) => Text,
        (Kind::Device, 2) => Number,
        (Kind::NodeDevice, 1) => Text,
        (Kind::NodeDevice, 2) => Message(Kind::Sharding),
        (Kind::NodeDevice, 3) => Number,
        (Kind::Sharding, 1) => Text,
        (Kind::Sharding, 2) => Numbers,
        (Kind::Sharding, 3) => Message(Kind::IntList),
        (Kind::Sharding, 4) => Message(Kind::ShardedDim),
        (Kind::IntList, 1) => Number,
        (Kind::IntList, 2) => Numbers,
        (Kind::ShardedDim, 1) => Number,
        (Kind::ShardedDim, 2) => Message(Kind::SimpleSharding),
        (Kind::SimpleSharding, 1 | 3) => Number,
        (Kind::SimpleSharding, 2) => Text,
        _ => return None,
    })
}

/// Walks the whole file.
///
/// # Errors
/// [`StructureError::NotOnnx`], [`StructureError::ExternalData`], [`StructureError::TooDeep`] or
/// [`StructureError::Memory`].
pub(super) fn walk(bytes: &[u8], limits: &Limits) -> Result<(), StructureError> {
    let mut walk = Walk { limits, cost: 0 };
    walk.message(bytes, Kind::Model, 1)
}

struct Walk<'a> {
    limits: &'a Limits,
    cost: u64,
}

impl Walk<'_> {
    fn message(&mut self, bytes: &[u8], kind: Kind, depth: usize) -> Result<(), StructureError> {
        if depth > self.limits.nesting {
            return Err(StructureError::TooDeep { limit: self.limits.nesting });
        }
        self.pay(MESSAGE_COST)?;
        let mut rest = bytes;
        while !rest.is_empty() {
            let key = varint(&mut rest)?;
            let (tag, wire) = (key >> 3, key & 7);
            let field = field(kind, tag).ok_or_else(|| stray(kind, tag))?;
            let mut varint_value = 0;
            match (field, wire) {
                (Field::Message(inner), 2) => {
                    let body = delimited(&mut rest)?;
                    if (kind, tag) == (Kind::Tensor, 13) {
                        return Err(StructureError::ExternalData { tensor: tensor_name(bytes) });
                    }
                    self.message(body, inner, depth + 1)?;
                }
                (Field::Text, 2) => {
                    let length = delimited(&mut rest)?.len() as u64;
                    self.pay(length.saturating_add(TEXT_COST))?;
                }
                (Field::Numbers, 2) => {
                    let length = delimited(&mut rest)?.len() as u64;
                    self.pay(length.saturating_mul(NUMBER_COST))?;
                }
                (Field::Fixed32 | Field::Fixed64, 2) => {
                    let length = delimited(&mut rest)?.len() as u64;
                    self.pay(length)?;
                }
                (Field::Number, 0) => varint_value = varint(&mut rest)?,
                (Field::Numbers, 0) => {
                    varint(&mut rest)?;
                    self.pay(NUMBER_COST)?;
                }
                (Field::Fixed32, 5) => {
                    take(&mut rest, 4)?;
                    self.pay(NUMBER_COST)?;
                }
                (Field::Fixed64, 1) => {
                    take(&mut rest, 8)?;
                    self.pay(NUMBER_COST)?;
                }
                _ => return Err(stray(kind, tag)),
            }
            if (kind, tag) == (Kind::Tensor, 14) && varint_value != 0 {
                return Err(StructureError::ExternalData { tensor: tensor_name(bytes) });
            }
        }
        Ok(())
    }

    fn pay(&mut self, cost: u64) -> Result<(), StructureError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limits.decoded_bytes {
            return Err(StructureError::Memory { limit: self.limits.decoded_bytes });
        }
        Ok(())
    }
}

fn stray(kind: Kind, tag: u64) -> StructureError {
    StructureError::NotOnnx(format!("a part of kind {kind:?} has a field {tag} that ONNX does not define"))
}

fn cut() -> StructureError {
    StructureError::NotOnnx("it is cut off or damaged".to_owned())
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Result<&'a [u8], StructureError> {
    let (head, tail) = rest.split_at_checked(length).ok_or_else(cut)?;
    *rest = tail;
    Ok(head)
}

fn delimited<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], StructureError> {
    let length = usize::try_from(varint(rest)?).map_err(|_| cut())?;
    take(rest, length)
}

fn varint(rest: &mut &[u8]) -> Result<u64, StructureError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, tail) = rest.split_first().ok_or_else(cut)?;
        *rest = tail;
        let bits = u64::from(first & 0x7f);
        if shift == 63 && bits > 1 {
            return Err(cut());
        }
        value |= bits << shift;
        if first & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(cut())
}

/// The name of a tensor, for the error alone: a damaged one reads as empty.
fn tensor_name(bytes: &[u8]) -> String {
    let mut rest = bytes;
    let mut name = String::new();
    while let Ok(key) = varint(&mut rest) {
        let body = match key & 7 {
            0 => varint(&mut rest).map(|_| [].as_slice()),
            1 => take(&mut rest, 8),
            2 => delimited(&mut rest),
            5 => take(&mut rest, 4),
            _ => Err(cut()),
        };
        match body {
            Ok(body) if key == 8 << 3 | 2 => name = String::from_utf8_lossy(body).into_owned(),
            Ok(_) => {}
            Err(_) => break,
        }
    }
    name
}

/// Whether `needle` is anywhere in `bytes`, in one pass that looks at few of them (Horspool).
pub(super) fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some((_, but_last)) = needle.split_last() else { return true };
    let mut skip = [needle.len(); 256];
    for (at, byte) in but_last.iter().enumerate() {
        skip[usize::from(*byte)] = but_last.len() - at;
    }
    let mut at = 0;
    while let Some(window) = bytes.get(at..at + needle.len()) {
        if window == needle {
            return true;
        }
        at += window.last().map_or(needle.len(), |last| skip[usize::from(*last)]);
    }
    false
}
