"""Run `retrank ingest`: `python training/ingest.py KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["ingest", *sys.argv[1:]]))
