//! The keys and values of one row, layer by layer. Every row has its own, so rows of different lengths need no padding
//! and a finished row's place goes to the next prompt.

/// Positions that attention reads as one vector.
pub(crate) const LANES: usize = 16;

/// One layer of one row: keys `[kv_heads, head_dim, stride]`, values `[kv_heads, capacity, head_dim]`. The stride is so much
/// more than the capacity that keys can be read in whole vectors, past the last one.
#[derive(Debug, Clone)]
pub struct LayerCache {
    keys: Vec<f32>,
    values: Vec<f32>,
    len: usize,
    /// Tokens that memory is allocated for.
    capacity: usize,
    /// Tokens that the layer may grow to in all.
    most: usize,
    stride: usize,
}

impl LayerCache {
    /// An empty layer with memory for `capacity` tokens, which it does not grow beyond.
    pub fn new(kv_heads: usize, head_dim: usize, capacity: usize) -> Self {
        let (width, stride) = (kv_heads * head_dim, capacity.next_multiple_of(LANES) + LANES);
        Self {
            keys: vec![0.0; width * stride],
            values: vec![0.0; width * capacity],
            len: 0,
            capacity,
            most: capacity,
            stride,
        }
    }

    /// A stand-in for a layer whose keys and values another row holds: it counts tokens alone.
    pub(crate) fn absent(len: usize) -> Self {
        Self { keys: Vec::new(), values: Vec::new(), len, capacity: 0, most: 0, stride: 0 }
    }

    /// Whether another row holds what this layer stands for.
    pub(crate) fn is_absent(&self) -> bool {
        self.stride == 0
    }

    /// Counts a token that was added to the layer that this one represents.
    pub(crate) fn count_token(&mut self) {
        self.len += 1;
    }

    /// Number of tokens whose keys and values are held.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no token is held yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of tokens that the layer may hold in all.
    pub fn room(&self) -> usize {
        self.most
    }

    /// Distance in `keys` between neighbouring dimensions of one head.
    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// Adds one token's rotated key and its value, each `[kv_heads · head_dim]`.
    pub(crate) fn push(&mut self, k: &[f32], v: &[f32], kv_heads: usize, head_dim: usize) {
        assert!(self.len < self.most, "the cache holds {} tokens and is full", self.most);
        if self.len == self.capacity {
            *self = self.with_room(self.most, head_dim);
        }
        for head in 0..kv_heads {
            for d in 0..head_dim {
                self.keys[(head * head_dim + d) * self.stride + self.len] = k[head * head_dim + d];
            }
            let start = (head * self.capacity + self.len) * head_dim;
            self.values[start..start + head_dim].copy_from_slice(&v[head * head_dim..(head + 1) * head_dim]);
        }
        self.len += 1;
    }

    /// One head's keys `[head_dim, stride]` and values `[capacity, head_dim]`.
    pub(crate) fn head(&self, head: usize, head_dim: usize) -> (&[f32], &[f32]) {
        let of = |length: usize| head * head_dim * length..(head + 1) * head_dim * length;
        (&self.keys[of(self.stride)], &self.values[of(self.capacity)])
    }

    /// A copy with room for `most` tokens in all. Memory is allocated as an answer grows, because most answers end before
    /// their limit.
    pub(crate) fn with_room(&self, most: usize, head_dim: usize) -> Self {
        assert!(self.len <= most, "{} tokens do not fit a cache of {most}", self.len);
        let capacity = most.min(self.len + (self.len / 2).max(GROWTH));
        let lines = self.keys.len() / self.stride;
        let mut copy = Self::new(lines / head_dim, head_dim, capacity);
        for line in 0..lines {
            let (from, to) = (line * self.stride, line * copy.stride);
            copy.keys[to..to + self.len].copy_from_slice(&self.keys[from..from + self.len]);
        }
        let width = self.len * head_dim;
        for head in 0..lines / head_dim {
            let (from, to) = (head * self.capacity * head_dim, head * capacity * head_dim);
            copy.values[to..to + width].copy_from_slice(&self.values[from..from + width]);
        }
        Self { len: self.len, most, ..copy }
    }
}

/// Minimum number of tokens by which a cache grows.
const GROWTH: usize = 32;

/// Keys and values of one row in all layers.
#[derive(Debug, Clone)]
pub struct RowCache {
    /// One cache per layer, the first layer first.
    pub layers: Vec<LayerCache>,
}

impl RowCache {
    /// Number of tokens whose keys and values are held.
    pub fn len(&self) -> usize {
        self.layers.first().map_or(0, LayerCache::len)
    }

    /// Whether no token is held yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy with room for `capacity` tokens in all: each answer continues from its own copy of a shared prompt.
    pub fn with_room(&self, capacity: usize, head_dim: usize) -> Self {
        let with_room =
            |layer: &LayerCache| if layer.is_absent() { layer.clone() } else { layer.with_room(capacity, head_dim) };
        Self { layers: self.layers.iter().map(with_room).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_with_more_room_holds_the_same_tokens() {
        let (kv_heads, head_dim) = (2, 3);
        let value = |token: usize, i: usize| (100 * token + i) as f32;
        let row = |token: usize| -> Vec<f32> { (0..6).map(|i| value(token, i)).collect() };
        let mut small = LayerCache::new(kv_heads, head_dim, 4);
        let mut large = LayerCache::new(kv_heads, head_dim, 9);
        for token in 0..4 {
            let k: Vec<f32> = (0..6).map(|i| value(token, i)).collect();
            let v: Vec<f32> = (0..6).map(|i| -value(token, i)).collect();
            small.push(&k, &v, kv_heads, head_dim);
            large.push(&k, &v, kv_heads, head_dim);
        }
        let copy = small.with_room(9, head_dim);
        assert_eq!((copy.len, copy.capacity, &copy.keys, &copy.values), (4, 9, &large.keys, &large.values));
        // Beyond what it has memory for, up to what it may hold.
        let mut growing = small.with_room(100, head_dim);
        assert_eq!((growing.capacity, growing.room()), (36, 100));
        let mut all = LayerCache::new(kv_heads, head_dim, 100);
        (0..4).for_each(|token| all.push(&row(token), &row(token + 9), kv_heads, head_dim));
        let mut growing = {
            growing = all.clone();
            growing.with_room(100, head_dim)
        };
        for token in 4..100 {
            growing.push(&row(token), &row(token + 9), kv_heads, head_dim);
            all.push(&row(token), &row(token + 9), kv_heads, head_dim);
        }
        for head in 0..kv_heads {
            assert_eq!(growing.head(head, head_dim).1, all.head(head, head_dim).1);
        }
        assert_eq!((growing.len, &growing.keys), (100, &all.keys));
    }
}
