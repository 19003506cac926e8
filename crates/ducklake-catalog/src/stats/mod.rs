//! Column statistics: their text in the catalog, and how those of a table grow.
