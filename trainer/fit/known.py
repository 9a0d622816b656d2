"""What a fit knows of a block of pairs, and how the state of a run holds it."""

from dataclasses import dataclass

from torch import Tensor

from .maps import Maps, Rollout


@dataclass(eq=False)
class Known:
    """Where some pairs are, and their maps; latents are sketches."""

    made: Rollout
    maps: Maps
    target: Tensor

    def packed(self) -> dict[str, Tensor]:
        """All of it by name."""
        made, maps = self.made, self.maps
        packed = {"x": made.x, "answers": made.answers, "log_queries": made.log_queries, "target": self.target}
        packed |= {"d": maps.d, "rho": maps.rho}
        for row, (u, y) in enumerate(zip(maps.u, maps.y, strict=True)):
            packed |= {f"u.{row}": u, f"y.{row}": y}
        return packed

    @classmethod
    def unpacked(cls, packed: dict[str, Tensor]) -> "Known":
        """The inverse of `packed`."""
        made = Rollout(packed["x"], packed["answers"], packed["log_queries"])
        u, y = ([packed[f"{name}.{row}"] for row in range(len(made.answers))] for name in ("u", "y"))
        return cls(made, Maps(u, y, packed["d"], packed["rho"]), packed["target"])
