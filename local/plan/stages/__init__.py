"""Stages of a plan: commands, keys, what they write and how long they take."""
