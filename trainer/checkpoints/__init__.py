"""What can be distilled: the built-in models, those of ComfyUI, and any of a user's own."""
