"""Kills, a broken broker and a full disk under the real programs, and a checker that reads what is left."""
