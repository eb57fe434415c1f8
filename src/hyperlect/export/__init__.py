"""A cell or a run in the formats of other libraries."""
