"""lllm."""
