"""Align (paper 3.1): CAVT-MAE, the audio encoder that shares one space with pictures and words."""
