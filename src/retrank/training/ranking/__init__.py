"""Second stage: candidates of all sources, a blend of their scores, and a model that ranks them."""
