"""The learner: preferences in, judged policy versions out. Read loop.py, then dpo.py, then losses.py."""
