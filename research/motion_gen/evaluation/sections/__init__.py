"""The sections of the table, each a module with `measure`, a function from context to rows."""
