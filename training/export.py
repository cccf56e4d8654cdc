"""Run `retrank export`: `python training/export.py KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
