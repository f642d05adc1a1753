"""Backups: archives that hold all of an appliance, made while it runs and read as if anybody had made them."""
