"""What the nodes and the trainer share about ComfyUI: calling a network, and reading facts from a model.

Imports nothing of ComfyUI, so that the trainer can import it before it has found one.
"""
