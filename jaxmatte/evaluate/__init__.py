"""Judging a model: prediction at any size, metrics with a named protocol, scores, the report."""
