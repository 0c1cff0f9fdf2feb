"""Training: configuration, trainers, optimizers, callbacks, checks before the first step."""
