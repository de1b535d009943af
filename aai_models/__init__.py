"""The method in pure PyTorch: audio, align, adapt, inject. Never imports ComfyUI; works from a plain `python`."""
