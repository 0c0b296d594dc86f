"""Images and labels, pairs of image and addend, and what a training batch is made of."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(__name__, submodules={"mnist"})
