//! Single-threaded matrix products on slices, by our own kernels where there are 512-bit units ([`super::panels`]), else by
//! the crate `gemm`. Threads are ours: one a core over rows, so the product itself never
//! splits (candle's thread count comes from the environment, is read once, and two pools fight on two cores).

use gemm::Parallelism;

use super::few_rows::{self, Stored, few_rows};
#[cfg(target_arch = "x86_64")]
use super::panels::{self, Left, Right};
#[cfg(target_arch = "x86_64")]
use super::simd::{Path, path};
use super::target::Target;

/// A matrix in a slice: how far apart rows and columns are.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A contiguous row-major matrix `[rows, columns]`.
    pub fn rows(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// Rows that start `row_stride` apart: one head's columns of a wider matrix.
    pub fn strided(values: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= values.len(),
            "a matrix of {rows} × {columns} needs more than {} values",
            values.len()
        );
        Self { values, rows, columns, row_stride, column_stride: 1 }
    }

    /// Whether the values lie row after row without a gap.
    fn whole_rows(self) -> bool {
        self.column_stride == 1 && self.row_stride == self.columns && self.columns > 0
    }

    /// The same values with rows and columns exchanged.
    pub fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// `target = alpha · a · b`, or `target += alpha · a · b`.
///
/// # Safety
/// `target` must hold `a`'s rows and `b`'s columns, apart from both, touched by nobody else.
pub(crate) unsafe fn into(a: Matrix, b: Matrix, target: Target, alpha: f32, accumulate: bool) {
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    if a.rows > 0 && b.columns > 0 {
        // SAFETY: the caller's.
        unsafe { run(a, b, target.values, target.stride, alpha, accumulate) }
    }
}

/// `out = alpha · a · b`, or `out += alpha · a · b`; `out` has rows `out_stride` apart.
pub fn product(a: Matrix, b: Matrix, out: &mut [f32], out_stride: usize, alpha: f32, accumulate: bool) {
    let (m, n) = (a.rows, b.columns);
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    if m == 0 || n == 0 {
        return;
    }
    assert!((m - 1) * out_stride + n <= out.len(), "the product does not fit its output");
    // SAFETY: both matrices and the output were checked against their slices' lengths; `out` is borrowed mutably, so it
    // overlaps neither input.
    unsafe { run(a, b, out.as_mut_ptr(), out_stride, alpha, accumulate) }
}

/// The transpose of a row-major `[rows, columns]` matrix.
pub fn transposed(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "a matrix of {rows} × {columns}");
    (0..columns).flat_map(|column| values.iter().skip(column).step_by(columns).copied()).collect()
}

/// `a · b` as a new row-major matrix.
pub fn multiply(a: Matrix, b: Matrix) -> Vec<f32> {
    scaled(a, b, 1.0)
}

/// A new row-major `alpha · a · b`.
pub fn scaled(a: Matrix, b: Matrix, alpha: f32) -> Vec<f32> {
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    let size = a.rows * b.columns;
    if a.columns == 0 {
        return vec![0.0; size];
    }
    let mut out = Vec::with_capacity(size);
    // SAFETY: the inputs were checked when they were made; the product writes every one of the `size` values and,
    // without accumulation, reads none.
    unsafe {
        run(a, b, out.as_mut_ptr(), b.columns, alpha, false);
        out.set_len(size);
    }
    out
}

/// # Safety
/// `out` must hold `a.rows` rows of `b.columns` values, `out_stride` apart, apart from both inputs.
unsafe fn run(a: Matrix, b: Matrix, out: *mut f32, out_stride: usize, alpha: f32, accumulate: bool) {
    let along_rows = a.whole_rows() && b.t().whole_rows();
    if along_rows && alpha == 1.0 && !accumulate && few_rows::applies(a.rows, b.columns) {
        let (x, w) = (&a.values[..a.rows * a.columns], &b.values[..b.rows * b.columns]);
        // SAFETY: the caller's.
        return unsafe { few_rows(x, Stored::F32(w), a.columns, out, out_stride) };
    }
    #[cfg(target_arch = "x86_64")]
    if path() >= Path::Avx512 && (b.column_stride == 1 || b.row_stride == 1) {
        let left = Left { values: a.values.as_ptr(), row: a.row_stride, column: a.column_stride };
        let transposed = b.column_stride != 1;
        let right = Right {
            values: b.values.as_ptr(),
            stride: if transposed { b.column_stride } else { b.row_stride },
            transposed,
        };
        let to = Target { values: out, stride: out_stride };
        // SAFETY: the path is never one that this processor lacks; the rest is the caller's.
        return unsafe { panels::product(left, right, (a.rows, a.columns, b.columns), to, alpha, accumulate) };
    }
    // SAFETY: the caller's, and the strides are positive.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            out_stride as isize,
            accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            alpha,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_transposes_and_strides_match_the_definition() {
        let a: Vec<f32> = (0..12).map(|i| i as f32).collect(); // 3 × 4
        let b: Vec<f32> = (0..12).map(|i| (i * i % 7) as f32).collect(); // 3 × 4
        let mut expected = vec![0.0; 9];
        for i in 0..3 {
            for j in 0..3 {
                expected[i * 3 + j] = (0..4).map(|k| a[i * 4 + k] * b[j * 4 + k]).sum();
            }
        }
        assert_eq!(multiply(Matrix::rows(&a, 3, 4), Matrix::rows(&b, 3, 4).t()), expected);
        let columns = multiply(Matrix::strided(&a[1..], 3, 2, 4), Matrix::rows(&[1.0, 0.0, 0.0, 1.0], 2, 2));
        assert_eq!(columns, [1.0, 2.0, 5.0, 6.0, 9.0, 10.0]);
        let mut sum = vec![1.0; 9];
        product(Matrix::rows(&a, 3, 4), Matrix::rows(&b, 3, 4).t(), &mut sum, 3, 2.0, true);
        assert!(sum.iter().zip(&expected).all(|(s, e)| *s == 1.0 + 2.0 * e));
    }
}
