"""The terminal: the line editor, the console that joins it to a wire, and the session that runs on it."""
