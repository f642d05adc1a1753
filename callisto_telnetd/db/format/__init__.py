"""Database files read without SQLite, page by page: where the schema or whole trees are lost, rows are still found."""
