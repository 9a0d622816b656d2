"""Checkpoints that ComfyUI loads and samples."""
