#!/usr/bin/env bash
# The whole path in about a minute on two cores: same code and bundle format as a real run, a model of toy size.
set -euo pipefail

retrank ingest data=online_retail
retrank train experiment=smoke run_dir=runs/smoke/latest
retrank export run=runs/smoke/latest out=bundles/smoke 'sealing.gates.not_worse_than=[]'  # a smoke run proves the pipes, not the model
retrank recommend bundle=bundles/smoke k=5
