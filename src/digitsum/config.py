"""What makes a run: torch-free, so that the command line shows the defaults without loading torch."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args, get_origin, get_type_hints

from digitsum.files import replacing


@dataclass(frozen=True)
class Config:
    """The settings of a training run, as `config.json` holds them; `digitsum train --help` explains each.

    The sum's loss weighs little because a sum that is off by k costs some 5 k^2 nats (`ConcatNet.GAP`),
    where a wrong digit costs a few: at equal weights its gradients would drown the digit's.
    """

    data: str = "mnist5k"
    data_dir: str | None = None
    train_fraction: float = 0.8
    addends: Literal["table", "fresh"] = "table"
    augment: bool = True
    damage: bool = False
    network: Literal["concat", "exact", "fast"] = "concat"
    width: int = 32
    epochs: int = 40
    batch_size: int = 128
    learning_rate: float = 6e-3
    weight_decay: float = 0.2
    average: float = 0.99
    label_smoothing: float = 0.0
    digit_weight: float = 1.0
    sum_weight: float = 0.005
    precision: Literal["auto", "bf16-mixed", "32-true"] = "auto"
    seed: int = 0

    def save(self, run: Path) -> None:
        """Write `config.json`, whole or not at all, into the folder `run`."""
        with replacing(run / "config.json") as file:
            file.write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, run: Path) -> Self:
        """Read the `config.json` of a run folder.

        Raises
        ------
        ValueError
            It isn't one.
        """
        try:
            values = json.loads((run / "config.json").read_text())
            kinds = get_type_hints(cls)
            for name, kind in kinds.items():
                if not _fits(values[name], kind):
                    raise TypeError(f"{name} is {values[name]!r}")
            return cls(**{name: values[name] for name in kinds})
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{run} isn't a run folder: its config.json is missing or damaged: {error}"
            ) from error


def _fits(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if kind is float:
        return type(value) in (int, float)
    return type(value) in (get_args(kind) or (kind,))


PRESETS = {
    # 99 % on both outputs as soon as possible: one epoch, chosen on held-out images of the training split
    "fast": Config(
        data="mnist",
        train_fraction=0.98,
        augment=False,
        network="fast",
        epochs=1,
        batch_size=256,
        learning_rate=0.03,
        weight_decay=0.05,
        average=0,
        label_smoothing=0.1,
    )
}
