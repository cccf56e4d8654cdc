"""retrank: train, prove and serve deep-learning recommenders."""

__version__ = "0.1.0"
