"""What the nodes and the trainer share about ComfyUI: calling a network, reading facts from a model,
schedulers, prompts.

Imports nothing of ComfyUI, so that the trainer can import it before it has found one.
"""
