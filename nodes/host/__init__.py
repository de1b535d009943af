"""The only place that talks to ComfyUI's internals."""
