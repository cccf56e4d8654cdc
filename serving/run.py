"""Run `retrank serve`: `python serving/run.py bundle=... KEY=VALUE ...`."""

import sys

from retrank.cli import main

if __name__ == "__main__":
    sys.exit(main(["serve", *sys.argv[1:]]))
