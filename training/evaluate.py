"""Run `retrank evaluate`: `python training/evaluate.py KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
