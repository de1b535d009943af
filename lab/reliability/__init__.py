"""What holds under load, kills, cancels and damaged input: drives a real ComfyUI for minutes and counts what goes wrong."""
