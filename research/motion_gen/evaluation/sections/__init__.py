"""The parts of the table, each a function from the bench to rows."""
