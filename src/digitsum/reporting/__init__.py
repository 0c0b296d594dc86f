"""The page of a run, its plots, and TensorBoard's events."""
