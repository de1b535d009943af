"""The rows of the scoreboard that run on the pack's own nodes, inside a ComfyUI: started by `inside.py`."""
