"""Simulated people: prompts to ask, a hidden utility, and a population that votes by it with noise."""
