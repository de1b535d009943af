"""Training of CAVT-MAE (Eq. 1-5)."""
