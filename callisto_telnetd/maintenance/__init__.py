"""The care for the database and its data: checks, repair, compaction, run beside the sessions."""
