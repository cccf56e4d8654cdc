"""retrank: train, prove and serve deep-learning recommenders."""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # ONNX Runtime would tell its makers which graphs it opens

__version__ = "0.1.0"
