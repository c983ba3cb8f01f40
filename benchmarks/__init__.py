"""One script a performance claim; each prints a table and a last line of JSON."""
