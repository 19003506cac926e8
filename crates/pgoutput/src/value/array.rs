//! The shape of an array (Postgres documentation, "Arrays").

/// One dimension of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dimension {
    /// How many elements there are along this dimension; never zero.
    pub length: u32,
    /// The subscript of the first; 1 unless the application chose another.
    pub lower: i32,
}

/// `MAXDIM` of Postgres.
pub(super) const MAX_DIMENSIONS: usize = 6;

/// The dimensions of an array, outermost first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    dimensions: [Dimension; MAX_DIMENSIONS],
    count: usize,
}

impl Shape {
    pub(super) const EMPTY: Self = Self {
        dimensions: [Dimension {
            length: 0,
            lower: 1,
        }; MAX_DIMENSIONS],
        count: 0,
    };

    pub(super) fn as_slice(&self) -> &[Dimension] {
        self.dimensions.get(..self.count).unwrap_or_default()
    }

    /// Adds an inner dimension. `None` when there are too many, when it is empty, or when the
    /// subscript behind its last does not fit, as in `ArrayCheckBounds`.
    pub(super) fn push(&mut self, dimension: Dimension) -> Option<()> {
        dimension.lower.checked_add_unsigned(dimension.length)?;
        if dimension.length == 0 {
            return None;
        }
        *self.dimensions.get_mut(self.count)? = dimension;
        self.count += 1;
        Some(())
    }

    /// How many elements there are; `None` when that exceeds 64 bits.
    pub(super) fn elements(&self) -> Option<u64> {
        if self.count == 0 {
            return Some(0);
        }
        self.as_slice()
            .iter()
            .try_fold(1_u64, |product, dimension| {
                product.checked_mul(u64::from(dimension.length))
            })
    }
}
