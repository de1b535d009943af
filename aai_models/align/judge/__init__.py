"""Evaluation: retrieval, Tables 1-3, ablations, reports."""
