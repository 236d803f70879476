"""The feedback log and what is made of it: append, read, join into examples. Read log.py, then join.py."""
