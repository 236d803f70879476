"""`python -m heliotrope.cli`: the same as `heliotrope`."""

from heliotrope.cli import main

if __name__ == "__main__":
    main()
