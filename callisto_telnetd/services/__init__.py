"""The processes that Callisto runs, the machine it runs on, and the time servers it asks."""
