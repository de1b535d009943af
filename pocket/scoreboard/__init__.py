"""Measures whether the meaning of a sound reaches the picture, outside ComfyUI, on the weights that came with the pack."""
