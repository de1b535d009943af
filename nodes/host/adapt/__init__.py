"""Adapt in the host: a word trained against its frozen models (Eq. 6), or carried over a bridge."""
