"""The verbs: one file each, plain arguments in, a `Result` out; import them by name.

Nothing is imported here, so that `framelets --help` does not wait for torch.
"""
