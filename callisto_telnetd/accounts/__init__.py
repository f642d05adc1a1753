"""Administrators: their accounts and passwords, who may come in, who is on, and the audit of what they did."""
