"""Scores to ranks, figures and intervals, by stated protocols."""
