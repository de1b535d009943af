"""What makes and measures the product and what no user's ComfyUI needs: training, scoreboard, benchmarks."""
