//! Where the pieces of one product are written.

/// Where a product goes: rows `stride` apart. It is a pointer, since several threads write pieces of one product side by
/// side, in columns of the same rows.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub values: *mut f32,
    pub stride: usize,
}

// SAFETY: the pointer alone is sent; whoever writes through it has to keep the pieces apart.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// The same rows from a later column on.
    pub fn at_column(self, column: usize) -> Self {
        Self { values: self.values.wrapping_add(column), ..self }
    }
}
