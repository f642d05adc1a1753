"""The SQLite store: its folder and lock, its schema, its transactions and its check."""
