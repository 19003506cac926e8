//! What an append table is declared as.

use std::fmt;

use ducklake_catalog::LakeType;

/// The type of a column of an append table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// 16-bit integer.
    Int16,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// Unsigned 32-bit integer.
    UInt32,
    /// Unsigned 64-bit integer.
    UInt64,
    /// 32-bit float. A number of JSON fits only if it is exactly one.
    Float32,
    /// 64-bit float.
    Float64,
    /// Exact decimal, from numbers and from text.
    Decimal {
        /// Digits in all, 1 to 38.
        precision: u8,
        /// Digits after the point, at most `precision`.
        scale: u8,
    },
    /// Text.
    Varchar,
    /// Any value, as JSON text.
    Json,
    /// Bytes.
    Blob,
    /// Date, from text such as `2024-02-29`.
    Date,
    /// Time of day in microseconds, from text such as `23:59:59.5`.
    Time,
    /// Time stamp in microseconds in no time zone, from RFC 3339 text without an offset.
    Timestamp,
    /// Instant in microseconds, from RFC 3339 text.
    TimestampTz,
    /// UUID, from text or 16 bytes.
    Uuid,
    /// List of one type.
    List(Box<ColumnType>),
    /// Named fields.
    Struct(Vec<(String, ColumnType)>),
}

impl ColumnType {
    /// A list of `element`.
    pub fn list(element: Self) -> Self {
        Self::List(Box::new(element))
    }

    /// The column's type in the lake.
    pub(crate) fn lake_type(&self) -> LakeType {
        match self {
            Self::Boolean => LakeType::Boolean,
            Self::Int16 => LakeType::Int16,
            Self::Int32 => LakeType::Int32,
            Self::Int64 => LakeType::Int64,
            Self::UInt32 => LakeType::UInt32,
            Self::UInt64 => LakeType::UInt64,
            Self::Float32 => LakeType::Float32,
            Self::Float64 => LakeType::Float64,
            Self::Decimal { precision, scale } => LakeType::Decimal {
                precision: *precision,
                scale: *scale,
            },
            Self::Varchar => LakeType::Varchar,
            Self::Json => LakeType::Json,
            Self::Blob => LakeType::Blob,
            Self::Date => LakeType::Date,
            Self::Time => LakeType::Time,
            Self::Timestamp => LakeType::Timestamp,
            Self::TimestampTz => LakeType::TimestampTz,
            Self::Uuid => LakeType::Uuid,
            Self::List(element) => LakeType::list(element.lake_type()),
            Self::Struct(fields) => LakeType::Struct(
                fields
                    .iter()
                    .map(|(name, ty)| (name.clone(), ty.lake_type()))
                    .collect(),
            ),
        }
    }
}

/// A column as a buffer knows it: the lake gives its id later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) ty: LakeType,
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, ty: LakeType) -> Self {
        Self {
            name: name.into(),
            ty,
        }
    }
}

/// An append table, declared by name.
#[derive(Clone, Debug)]
pub struct AppendTable {
    pub(crate) name: String,
    pub(crate) schema: String,
    pub(crate) table: String,
    pub(crate) columns: Vec<(String, ColumnType)>,
    pub(crate) infer_timestamps: bool,
    pub(crate) fixed: bool,
    pub(crate) json_lines: bool,
}

impl AppendTable {
    /// Table `raw.<name>` of the lake. Its columns come from the first rows, unless some are given.
    pub fn new(name: impl Into<String>) -> Self {
        let name = name.into();
        Self {
            schema: "raw".to_owned(),
            table: name.clone(),
            name,
            columns: Vec::new(),
            infer_timestamps: false,
            fixed: false,
            json_lines: false,
        }
    }

    /// Appends into this schema and table of the lake; the name that rows are appended under stays.
    #[must_use]
    pub fn target(mut self, schema: impl Into<String>, table: impl Into<String>) -> Self {
        self.schema = schema.into();
        self.table = table.into();
        self
    }

    /// Gives a column. Fields of rows that are not given become further columns, unless the table is
    /// [`fixed`](Self::fixed).
    #[must_use]
    pub fn column(mut self, name: impl Into<String>, ty: ColumnType) -> Self {
        self.columns.push((name.into(), ty));
        self
    }

    /// True: a new field whose first value is RFC 3339 text becomes a column of type `timestamptz` instead of
    /// `varchar`. Later values have to be RFC 3339 text, too.
    #[must_use]
    pub fn infer_timestamps(mut self, infer: bool) -> Self {
        self.infer_timestamps = infer;
        self
    }

    /// True: a field without a column is an error of its row.
    #[must_use]
    pub fn fixed(mut self, fixed: bool) -> Self {
        self.fixed = fixed;
        self
    }

    /// True: the rows go into files of JSON lines, in the directory `<schema>/<table>` of the store, and the lake never
    /// hears of them. Such rows have no snapshot: what says that they are durable says 0. The end of the process between
    /// a file and the note of how far its producers are repeats rows, when a producer sends them again.
    #[must_use]
    pub fn json_lines(mut self, json_lines: bool) -> Self {
        self.json_lines = json_lines;
        self
    }
}

impl fmt::Display for AppendTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.schema, self.table)
    }
}
