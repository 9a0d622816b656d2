"""A fit headless: a workflow with the fit in the place of its sampler, run by a ComfyUI server."""
