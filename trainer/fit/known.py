"""What a fit knows of a block of pairs, and how the state of a run holds it."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .maps import Maps
from .rollout import Rollout
from .sketch import Coordinates


@dataclass(eq=False)
class Known:
    """Where some pairs are, and their maps; latents are sketches."""

    made: Rollout
    maps: Maps
    target: Tensor

    def in_coordinates(self) -> "Known":
        """The same with few numbers a latent: the maps lead nowhere but where combinations of these do."""
        made, maps = self.made, self.maps
        reached = [self.target[None], made.x[:1], made.answers]
        reached += [] if made.directions is None else [made.directions]
        for one in (maps, maps.second):
            reached += [] if one is None else [one.d, *one.y]
        fold = Coordinates(torch.cat([one.to(made.x) for one in reached]))
        return Known(made.sketched(fold), maps.sketched(fold), fold(self.target[None])[0])

    def packed(self) -> dict[str, Tensor]:
        """All of it by name."""
        made, maps = self.made, self.maps
        packed = {"x": made.x, "answers": made.answers, "log_queries": made.log_queries, "target": self.target}
        packed |= _packed(maps, "")
        if made.directions is not None and maps.second is not None:
            packed |= {"directions": made.directions, **_packed(maps.second, "second.")}
        return packed

    @classmethod
    def unpacked(cls, packed: dict[str, Tensor]) -> "Known":
        """The inverse of `packed`."""
        made = Rollout(packed["x"], packed["answers"], packed["log_queries"], packed.get("directions"))
        maps, rows = _unpacked(packed, "", len(made.answers)), len(made.answers)
        maps.second = None if made.directions is None else _unpacked(packed, "second.", rows)
        return cls(made, maps, packed["target"])


def _packed(maps: Maps, begin: str) -> dict[str, Tensor]:
    packed = {f"{begin}d": maps.d, f"{begin}rho": maps.rho}
    for row, (u, y) in enumerate(zip(maps.u, maps.y, strict=True)):
        packed |= {f"{begin}u.{row}": u, f"{begin}y.{row}": y}
    return packed


def _unpacked(packed: dict[str, Tensor], begin: str, rows: int) -> Maps:
    u, y = ([packed[f"{begin}{name}.{row}"] for row in range(rows)] for name in ("u", "y"))
    return Maps(u, y, packed[f"{begin}d"], packed[f"{begin}rho"])
