"""Trace: records, the hub that holds and hands them on, captures on file, and the log that feeds it."""
