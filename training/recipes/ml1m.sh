#!/usr/bin/env bash
# SASRec on the MovieLens-1M sequence file of the SASRec papers, protocol P1. About 45 minutes on two cores.
# Usage: ml1m.sh PATH/TO/ml-1m.txt   (one "user item" pair per line, in time order; not shipped, see its terms)
set -euo pipefail

retrank ingest data=sequence_file data.path="$1" out=stores/ml1m
retrank train experiment=ml1m_sasrec
