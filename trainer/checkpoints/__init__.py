"""What can be distilled: the built-in models, those of ComfyUI and of diffusers, and the user's own."""
