"""Any picture -> 28 x 28 images as MNIST's."""
