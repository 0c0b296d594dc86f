"""The loop, what moves the weights, a run's state, and its processes."""
