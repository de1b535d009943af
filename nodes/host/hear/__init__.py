"""Align in the host: encoders of sounds as its models, and pictures that a sound finds."""
