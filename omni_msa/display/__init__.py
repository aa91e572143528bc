"""Output for people and programs: cards, tables, progress, JSON.

It imports what is below it; only `commands` imports it, when a command needs it.
"""
