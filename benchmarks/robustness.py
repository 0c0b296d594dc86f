"""How right does a network stay on worse images? The official test split of MNIST, corrupted.

python benchmarks/robustness.py exact runs/first [...] [--picture docs/corruptions.png]

Each network is one that comes with the package or a folder with a saved one. Each corruption has three
strengths, from mild to one at which people still read most digits easily. All are seeded: every network meets
the same images, each with all ten addends. What a network tolerates follows from what it was trained on:
compare one trained on distorted images with one that wasn't, and see what the distortions don't cover.
"""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from pictures import encode
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from script import make_parser, record
from torch import Tensor

from digitsum import mnist
from digitsum.data.digits import Digits
from digitsum.data.pairs import DigitSumDataset, loader
from digitsum.evaluation import evaluate
from digitsum.networks import DigitSumNet, load


def translate(image: Tensor, pixels: float) -> Tensor:
    """Shift along the diagonal."""
    return _affine(image, [[0, 0, 1], [0, 0, 1]], pixels / 14)


def rotate(image: Tensor, degrees: float) -> Tensor:
    """Rotate about the centre."""
    return _affine(image, [[0, -1, 0], [1, 0, 0]], math.radians(degrees))


def scale(image: Tensor, factor: float) -> Tensor:
    """Enlarge or shrink."""
    return _affine(image, [[1, 0, 0], [0, 1, 0]], math.log(factor))


def shear(image: Tensor, slope: float) -> Tensor:
    """Slant."""
    return _affine(image, [[0, 1, 0], [0, 0, 0]], slope)


def _affine(image: Tensor, direction: list[list[float]], amount: float) -> Tensor:
    """Follow the affine maps exp(t direction) to t = amount or -amount, at random for each image."""
    t = amount * (2.0 * torch.randint(2, (len(image), 1, 1)) - 1)
    maps = torch.matrix_exp(t * torch.tensor([*direction, [0.0, 0.0, 0.0]]))  # [N, 3, 3]
    grid = F.affine_grid(maps[:, :2], list(image.shape), align_corners=False)
    return F.grid_sample(image, grid, align_corners=False)


def bend(image: Tensor, pixels: float) -> Tensor:
    """Move each pixel by a smooth random field (Simard et al., 2003, doi:10.1109/ICDAR.2003.1227801)."""
    field = gaussian_filter(torch.randn(len(image), 28, 28, 2).numpy(), sigma=(0, 4, 4, 0))
    straight = F.affine_grid(torch.eye(2, 3).expand(len(image), 2, 3), list(image.shape), align_corners=False)
    bent = straight + torch.from_numpy(field / field.std()) * pixels / 14
    return F.grid_sample(image, bent, align_corners=False)


def thin(image: Tensor, pixels: float) -> Tensor:
    """Take from each side of a stroke."""
    return 1 - thicken(1 - image, pixels)


def thicken(image: Tensor, pixels: float) -> Tensor:
    """Add to each side of a stroke, in steps of a fifth of a pixel."""
    reach = round(5 * pixels)
    large = F.interpolate(image, scale_factor=5, mode="bilinear")  # [N, 1, 140, 140]
    wide = F.max_pool2d(large, (1, 2 * reach + 1), stride=1, padding=(0, reach))
    return F.avg_pool2d(F.max_pool2d(wide, (2 * reach + 1, 1), stride=1, padding=(reach, 0)), 5)


def occlude(image: Tensor, side: float) -> Tensor:
    """Hide a square somewhere in the central 20 x 20 pixels, where the ink is."""
    start = 4 + (torch.rand(len(image), 2, 1) * (21 - side)).floor()
    pixel = torch.arange(28)
    row, column = ((pixel >= start) & (pixel < start + side)).unbind(dim=1)  # [N, 28] each
    return image.masked_fill((row[:, :, None] & column[:, None])[:, None], 0)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Blur by a normal distribution."""
    return torch.from_numpy(gaussian_filter(image.numpy(), sigma=(0, 0, sigma, sigma)))


def blur_motion(image: Tensor, pixels: float) -> Tensor:
    """Blur as a sideways motion does."""
    return F.avg_pool2d(image, (1, int(pixels)), stride=1, padding=(0, int(pixels) // 2))


def pixelate(image: Tensor, pixels: float) -> Tensor:
    """Keep fewer pixels a side."""
    return F.interpolate(F.interpolate(image, int(pixels), mode="area"), 28, mode="nearest-exact")


def compress(image: Tensor, quality: float) -> Tensor:
    """Store as JPEG and read back."""
    files = (encode(pixels, quality=int(quality)) for pixels in (255 * image[:, 0]).byte().numpy())
    decoded = [torch.from_numpy(np.array(Image.open(io.BytesIO(file)))) for file in files]
    return torch.stack(decoded)[:, None] / 255


def add_noise(image: Tensor, deviation: float) -> Tensor:
    """Add normal noise."""
    return image + deviation * torch.randn_like(image)


def add_impulses(image: Tensor, share: float) -> Tensor:
    """Turn a share of the pixels black or white: salt and pepper."""
    level = torch.rand_like(image)
    return image.masked_fill(level < share / 2, 0).masked_fill(level > 1 - share / 2, 1)


def stripe(image: Tensor, light: float) -> Tensor:
    """Add bars of light, 3 of every 7 pixels, across or down, at random for each image."""
    bars = (torch.arange(28) % 7 < 3).float().expand(28, 28)
    turned = torch.rand(len(image), 1, 1, 1) < 1 / 2
    return image + light * torch.where(turned, bars.T, bars)


def grid(image: Tensor, light: float) -> Tensor:
    """Add lines of light, a pixel wide, 5 pixels apart, as those of squared paper."""
    line = torch.arange(28) % 5 == 2
    return image + light * (line | line[:, None]).float()


def shade(image: Tensor, light: float) -> Tensor:
    """Add light that grows from one side to the other, from any of the four at random for each image."""
    ramp = torch.linspace(0, light, 28).expand(28, 28)
    sides = torch.stack([ramp.rot90(turn) for turn in range(4)])
    return image + sides[torch.randint(4, (len(image),)), None]


def brighten(image: Tensor, amount: float) -> Tensor:
    """Add light everywhere."""
    return image + amount


def flatten(image: Tensor, contrast: float) -> Tensor:
    """Keep a part of the contrast: all pixels come nearer to the image's mean."""
    mean = image.mean(dim=(2, 3), keepdim=True)
    return mean + contrast * (image - mean)


CORRUPTIONS: dict[str, tuple[Callable[[Tensor, float], Tensor], tuple[float, float, float]]] = {
    "translation, pixels": (translate, (1, 2, 3)),
    "rotation, degrees": (rotate, (10, 20, 30)),
    "scale, factor or its inverse": (scale, (1.1, 1.2, 1.3)),
    "shear, slope": (shear, (0.15, 0.3, 0.45)),
    "elastic, pixels": (bend, (0.5, 1, 1.5)),
    "thinner, pixels a side": (thin, (0.2, 0.4, 0.6)),
    "thicker, pixels a side": (thicken, (0.4, 0.6, 0.8)),
    "occlusion, pixels a side": (occlude, (2, 4, 6)),
    "blur, pixels": (blur, (0.5, 1, 1.5)),
    "motion blur, pixels": (blur_motion, (3, 5, 7)),
    "pixelated, pixels a side": (pixelate, (14, 12, 10)),
    "JPEG, quality": (compress, (20, 10, 5)),
    "Gaussian noise, share of white": (add_noise, (0.1, 0.2, 0.3)),
    "impulse noise, share of pixels": (add_impulses, (0.05, 0.1, 0.15)),
    "bars, share of white": (stripe, (0.2, 0.4, 0.6)),
    "grid, share of white": (grid, (0.2, 0.4, 0.6)),
    "gradient, share of white": (shade, (0.3, 0.6, 0.9)),
    "brightness, share of white": (brighten, (0.1, 0.2, 0.3)),
    "contrast, share kept": (flatten, (0.75, 0.5, 0.3)),
}


def main() -> None:
    """Print a row for each corruption and strength, then the mean."""
    parser = make_parser(__doc__)
    parser.add_argument("networks", nargs="+", metavar="NETWORK")
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    networks = [load(name) for name in options.networks]
    test = mnist.load("mnist", "test")
    images = torch.from_numpy(test.images)
    if options.picture:
        draw(images[32:33]).save(options.picture)
    heads = "".join(f" {name}: digit, % | sum, % |" for name in options.networks)
    print(f"| corruption | strength |{heads}\n|---|---|{'---|---|' * len(networks)}")
    print_row("none", "", measure(networks, test))
    rows = []
    for name, (_, strengths) in CORRUPTIONS.items():
        for strength in strengths:
            rows.append(measure(networks, Digits(corrupt(images, name, strength).numpy(), test.labels)))
            print_row(name, f"{strength:g}", rows[-1])
    print_row("mean of all corruptions", "", np.mean(rows, axis=0))


def corrupt(images: Tensor, name: str, strength: float) -> Tensor:
    """Corrupt images, uint8 [N, 1, 28, 28], always in the same way."""
    torch.manual_seed(0)
    corruption, _ = CORRUPTIONS[name]
    batches = [corruption(batch.float() / 255, strength) for batch in images.split(1000)]
    return (255 * torch.cat(batches).clamp(0, 1)).round().byte()


def measure(networks: list[DigitSumNet], digits: Digits) -> np.ndarray:
    """Return the accuracies of digit and sum, per cent, of each network in turn."""
    batches = loader(DigitSumDataset(digits))
    evaluations = [evaluate(network, batches, "mnist", "test") for network in networks]
    return np.array([100 * share for e in evaluations for share in (e.digit_accuracy, e.sum_accuracy)])


def print_row(name: str, strength: str, accuracies: np.ndarray) -> None:
    """Print a row in Markdown."""
    cells = "".join(f" {accuracy:.2f} |" for accuracy in accuracies)
    print(f"| {name} | {strength} |{cells}", flush=True)


def draw(image: Tensor) -> Image.Image:
    """Draw an image, uint8 [1, 1, 28, 28], under every corruption: a row each, the original first."""
    zoom, margin = 2, 240
    sheet = Image.new("L", (margin + 4 * 28 * zoom, len(CORRUPTIONS) * 28 * zoom), "white")
    for i, (name, (_, strengths)) in enumerate(CORRUPTIONS.items()):
        tiles = torch.cat([image, *(corrupt(image, name, strength) for strength in strengths)], dim=3)
        row = Image.fromarray(tiles[0, 0].repeat_interleave(zoom, 0).repeat_interleave(zoom, 1).numpy())
        sheet.paste(row, (margin, i * row.height))
        label = f"{name}: {', '.join(f'{strength:g}' for strength in strengths)}"
        ImageDraw.Draw(sheet).text((10, (i + 0.5) * row.height), label, fill="black", anchor="lm")
    return sheet


if __name__ == "__main__":
    record(main)
