"""Training: configuration, trainers, optimizers, callbacks, pre-flight checks."""
