"""Parts of the table: rows out of what was measured."""
