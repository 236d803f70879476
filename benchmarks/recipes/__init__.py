"""How much a training recipe gains, and how much of that is luck."""
