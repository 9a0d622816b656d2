"""What can be distilled: the built-in models, those of ComfyUI, and the user's own."""
