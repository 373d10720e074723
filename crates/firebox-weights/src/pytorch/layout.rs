//! Tensors as they lie in a storage of bytes.

use std::collections::HashMap;

use bytes::Bytes;

use crate::dtype::DType;
use crate::raw_tensor::RawTensor;

/// A tensor's place in a storage; checked to lie within it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Layout {
    dtype: DType,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    /// In elements.
    stride: Vec<usize>,
    /// The product of the shape.
    elements: usize,
    /// The tensor's numbers are the negatives of those that are stored. Only of floats.
    negated: bool,
}

impl Layout {
    /// The layout, for a storage of `storage` bytes.
    pub(crate) fn new(
        dtype: DType,
        offset: usize,
        shape: Vec<usize>,
        stride: Vec<usize>,
        negated: bool,
        storage: usize,
    ) -> Result<Self, String> {
        if shape.len() != stride.len() {
            return Err(format!("shape {shape:?} with strides {stride:?}: expected one stride a dimension"));
        }
        let elements = match shape.contains(&0) {
            true => Some(0),
            false => shape.iter().try_fold(1usize, |all, &length| all.checked_mul(length)),
        };
        let end = match elements {
            Some(0) => Some(offset),
            _ => std::iter::zip(&shape, &stride)
                .try_fold(offset, |last, (&length, &step)| last.checked_add((length - 1).checked_mul(step)?))
                .and_then(|last| last.checked_add(1)),
        };
        let stored = storage / dtype.size();
        match (elements, end) {
            (Some(elements), Some(end)) if end <= stored => {
                Ok(Layout { dtype, offset, shape, stride, elements, negated })
            }
            _ => Err(format!(
                "shape {shape:?} with strides {stride:?} from element {offset} reaches beyond its storage of \
                 {stored} elements"
            )),
        }
    }

    pub(crate) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The bytes that the tensor takes on its own.
    fn bytes(&self) -> u64 {
        (self.elements as u64).saturating_mul(self.dtype.size() as u64)
    }

    /// Dimensions that matter, with their strides: of one element there is no next one.
    fn steps(&self) -> impl DoubleEndedIterator<Item = (usize, usize)> {
        std::iter::zip(&self.shape, &self.stride)
            .map(|(&length, &step)| (length, step))
            .filter(|(length, _)| *length != 1)
    }

    /// True if the tensor is a piece of the storage as it is. Bools are not, since each is looked at.
    fn is_piece(&self) -> bool {
        let mut next = 1usize;
        let in_order = self.elements == 0
            || self.steps().rev().all(|(length, step)| {
                let expected = next;
                // Within the product of the shape, which is no overflow.
                next *= length;
                step == expected
            });
        in_order && !self.negated && self.dtype != DType::Bool
    }

    /// The tensor's bytes, in order, out of its storage's.
    fn gather(&self, storage: &[u8]) -> Vec<u8> {
        let size = self.dtype.size();
        // What it takes was counted before.
        let mut bytes = Vec::with_capacity(self.elements * size);
        let mut outer: Vec<_> = self.steps().collect();
        // A tensor without dimensions is one row of one element.
        let (row, step) = outer.pop().unwrap_or((1, 1));
        let mut index = vec![0; outer.len()];
        let mut start = self.offset;
        while bytes.len() < self.elements * size {
            match step {
                1 => bytes.extend_from_slice(&storage[start * size..(start + row) * size]),
                _ => (0..row).for_each(|i| {
                    let at = (start + i * step) * size;
                    bytes.extend_from_slice(&storage[at..at + size]);
                }),
            }
            for (index, &(length, step)) in std::iter::zip(&mut index, &outer).rev() {
                *index += 1;
                start += step;
                if *index < length {
                    break;
                }
                start -= length * step;
                *index = 0;
            }
        }
        if self.negated {
            // The sign is the highest bit of a float's last byte.
            bytes.chunks_exact_mut(size).for_each(|number| number[size - 1] ^= 0x80);
        }
        bytes
    }
}

/// The tensors of a storage, each layout once.
pub(crate) struct Stored {
    /// The storage's length.
    bytes: usize,
    layouts: Vec<(Layout, Vec<String>)>,
    places: HashMap<Layout, usize>,
}

impl Stored {
    pub(crate) fn new(bytes: usize) -> Self {
        Stored { bytes, layouts: Vec::new(), places: HashMap::new() }
    }

    /// Adds a tensor of a storage of `bytes`, and returns the memory that it adds.
    ///
    /// That is something for each name, the storage once, and once each layout that is no piece of it.
    pub(crate) fn add(&mut self, name: String, layout: Layout, bytes: usize) -> Result<u64, String> {
        if bytes != self.bytes {
            return Err(format!("expected a storage of {} bytes, got {bytes}", self.bytes));
        }
        let mut cost = 64 + 16 * layout.shape.len() as u64;
        if self.layouts.is_empty() {
            cost = cost.saturating_add(bytes as u64);
        }
        match self.places.get(&layout) {
            Some(&place) => self.layouts[place].1.push(name),
            None => {
                if !layout.is_piece() {
                    cost = cost.saturating_add(layout.bytes());
                }
                self.places.insert(layout.clone(), self.layouts.len());
                self.layouts.push((layout, vec![name]));
            }
        }
        Ok(cost)
    }

    /// The tensors by name, out of the storage's bytes, which its pieces share.
    pub(crate) fn tensors(self, bytes: Vec<u8>) -> Result<Vec<(String, RawTensor)>, String> {
        let first = self.layouts.first().and_then(|(_, names)| names.first());
        if bytes.len() != self.bytes {
            let name = first.map_or("", String::as_str);
            return Err(format!("{name}: expected a storage of {} bytes, got {}", self.bytes, bytes.len()));
        }
        let whole = Bytes::from(bytes);
        let mut tensors = Vec::new();
        for (layout, names) in self.layouts {
            let bytes = match layout.is_piece() {
                true => {
                    let start = layout.offset * layout.dtype.size();
                    whole.slice(start..start + layout.elements * layout.dtype.size())
                }
                false => Bytes::from(layout.gather(&whole)),
            };
            let last = names.last().map_or("", String::as_str);
            let tensor = RawTensor::checked(bytes, layout.shape, layout.dtype)
                .map_err(|error| format!("{last}: {error}"))?;
            tensors.extend(names.into_iter().map(|name| (name, tensor.clone())));
        }
        Ok(tensors)
    }
}
