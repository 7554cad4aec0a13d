"""Events -> model: dataset, split, fit, ranker, evaluate, publish."""
