"""What a fit knows of a block of pairs, and how the state of a run holds it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from dyweight import Plan

from .maps import Maps, imagined
from .rollout import Rollout
from .sketch import coordinates


@dataclass(eq=False)
class Known:
    """Where some pairs are, and their maps; latents are sketches."""

    made: Rollout
    maps: Maps
    target: Tensor

    def in_coordinates(self) -> "Known":
        """The same with few numbers a latent: the maps lead nowhere but where combinations of the reached ones do."""
        packed = self.packed()
        latents = {
            name: one.to(self.made.x).reshape(-1, *one.shape[-2:])
            for name, one in packed.items()
            if name not in ("log_queries", "rho", "second.rho")
        }
        reached = [one[:1] if name == "x" else one for name, one in latents.items() if "u." not in name]
        every = coordinates(torch.cat([*latents.values()]), torch.cat(reached))
        folded = zip(latents, torch.split(every, [*map(len, latents.values())]), strict=True)
        return Known.unpacked(
            packed | {name: one.reshape(*packed[name].shape[:-1], one.shape[-1]) for name, one in folded}
        )

    def copy(self) -> "Known":
        """With maps that can learn for themselves."""
        return Known.unpacked(self.packed())

    def imagined_at(self, plan: Plan) -> "Known":
        """Where a table leads on these maps."""
        return Known(imagined(plan, self.made, self.maps), self.maps, self.target)

    def packed(self, begin: str = "") -> dict[str, Tensor]:
        """All of it by name. begin: of all names."""
        made, maps = self.made, self.maps
        packed = {"x": made.x, "answers": made.answers, "log_queries": made.log_queries, "target": self.target}
        packed |= _packed(maps, "")
        if made.directions is not None and maps.second is not None:
            packed |= {"directions": made.directions, **_packed(maps.second, "second.")}
        return {f"{begin}{name}": value for name, value in packed.items()}

    @classmethod
    def together(cls, blocks: Sequence["Known"]) -> "Known":
        """Of the pairs of all blocks, one after the other."""
        parts = [one.packed() for one in blocks]
        return cls.unpacked({name: _together(name, [one[name] for one in parts]) for name in parts[0]})

    @classmethod
    def unpacked(cls, state: dict[str, Tensor], begin: str = "") -> "Known":
        """The inverse of `packed`; other names are passed over."""
        packed = {name.removeprefix(begin): value for name, value in state.items() if name.startswith(begin)}
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


def _together(name: str, parts: list[Tensor]) -> Tensor:
    """What is packed under a name; blocks that have fewer directions or coordinates get zeros for them."""
    if name == "log_queries":
        return parts[0]
    if name.endswith("rho"):
        return torch.cat(parts, 1)
    most, numbers = max(map(len, parts)), max(part.shape[-1] for part in parts)
    room = [(0, numbers - part.shape[-1], 0, 0, 0, most - len(part))[: 2 * part.ndim] for part in parts]
    return torch.cat([pad(part, more) for part, more in zip(parts, room, strict=True)], -2)
