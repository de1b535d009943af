"""The pocket models in plain PyTorch, with the shapes and names that ComfyUI's own classes give them."""
