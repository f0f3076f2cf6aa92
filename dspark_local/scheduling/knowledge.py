"""What was learned of a machine and of a pair, kept between runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from dspark_local.scheduling.calibration import Calibration
from dspark_local.scheduling.cost import CostTable
from dspark_local.scheduling.forecast import Forecast

if TYPE_CHECKING:
    from pathlib import Path

COSTS, CALIBRATIONS, FORECASTS = "costs.json", "calibrations.json", "forecasts.json"


@dataclass(slots=True)
class Knowledge:
    """Seconds, by all that they depend on (`costs_of`); calibration and forecast, by the pair alone (`pair`).

    `measured` False: nothing was kept, and `costs` are a guess.
    """

    folder: Path
    costs_of: str
    pair: str
    costs: CostTable
    calibration: Calibration
    forecast: Forecast
    measured: bool

    @classmethod
    def recall(cls, folder: Path, *, costs_of: str, pair: str, slots: int, gamma: int, longest: int = 0) -> Self:
        """What is kept in `folder`; a start from nothing where nothing sound is."""
        kept = CostTable.load(folder / COSTS, costs_of, slots=slots, gamma=gamma, longest=longest)
        return cls(
            folder,
            costs_of,
            pair,
            kept or CostTable.guess(slots=slots, gamma=gamma, longest=longest),
            Calibration.load(folder / CALIBRATIONS, pair, gamma=gamma),
            Forecast.load(folder / FORECASTS, pair, gamma=gamma),
            measured=kept is not None,
        )

    def save(self) -> None:
        """Keep them. Nothing happens where the folder cannot be written."""
        self.costs.save(self.folder / COSTS, self.costs_of)
        self.calibration.save(self.folder / CALIBRATIONS, self.pair)
        self.forecast.save(self.folder / FORECASTS, self.pair)
