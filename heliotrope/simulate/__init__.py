"""Simulated people: prompts to ask, a hidden utility, and a population that votes by it with noise.

`drive` has them use the public API; `judging` says at the end what was gained, by the hidden utility.
"""
