"""One fold of a network, epoch by epoch: batches, objective, optimiser, checkpoints, the epoch that is kept."""
