"""The embedded default: a small world of drawn scenes and synthesised sounds, and models of the real shapes trained on it.

Nothing here imports ComfyUI, and nothing of it is imported before a pocket node runs.
"""
