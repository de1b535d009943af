"""The recipe: trains each pocket model from its seed, resumable, with a log and curves."""
