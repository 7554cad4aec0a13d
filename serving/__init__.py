"""Answers what to show to whom."""
