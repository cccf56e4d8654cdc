"""Run `retrank rank`: `python training/rank.py KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["rank", *sys.argv[1:]]))
