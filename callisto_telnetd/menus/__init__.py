"""The command tree: what an administrator can do, as data, and the words that lead to it.

A command is written once and knows no socket: it yields answers; the door it was called through shows them.
"""
