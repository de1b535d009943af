"""Measurements, peers beside us in one run. Start them with `python dev.py bench [NAME]`; nothing here is a test."""
