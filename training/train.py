"""Run `retrank train`: `python training/train.py KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
