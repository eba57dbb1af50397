"""The networks: tensors in, tensors out. They know the process, and nothing of samplers, files or screens."""
