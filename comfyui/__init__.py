"""What the nodes and the trainer share of ComfyUI: how a network is asked, and what a model says of itself.

Imports nothing of ComfyUI, so that the trainer can import it before it has found one.
"""
