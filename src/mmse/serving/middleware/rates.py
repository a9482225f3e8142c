"""How fast each client address may send, over all workers of a server.

The rate is kept as the generic cell rate algorithm does (ITU-T I.371): of each address only the moment is known at
which all that it sent would be due at its rate. Addresses share a table in memory by hash, twice, as in a count-min
sketch (Cormack and Muthukrishnan, 2005): an address is refused only where both of its cells are full, so that a
stranger in one of them harms nobody. Of two workers that count at the same moment one may be forgotten.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float64

CELLS = 1 << 16
"""Cells of each of the two rows of the table."""
BURST_S = 2.0
"""An address may send as much at once as is due in so many seconds."""
_KEY_BYTES = 16
_FILE = "rates"


@final
class RequestRates:
    """The rates of addresses: `per_s` requests a second, 0 for no limit.

    `due_s` has, by row and cell, when all that was sent is due. `clock` counts alike in all processes that share it.
    """

    def __init__(
        self,
        per_s: int,
        due_s: Float64[np.ndarray, "2 cells"] | None = None,
        key: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._per_s, self._key, self._clock = per_s, key, clock
        self._due_s = np.zeros((2, CELLS)) if due_s is None else due_s

    @classmethod
    def open(cls, per_s: int, folder: Path | None) -> RequestRates:
        """The rates that the workers of a server share in `folder` (`create_table`); None for one worker alone."""
        if folder is None:
            return cls(per_s, key=os.urandom(_KEY_BYTES))
        table = np.memmap(folder / _FILE, np.float64, "r+", offset=_KEY_BYTES, shape=(2, CELLS))
        return cls(per_s, np.asarray(table), (folder / _FILE).read_bytes()[:_KEY_BYTES])

    def allow(self, address: str) -> bool:
        """Whether one more request of `address` is within the rate; if so, it is counted."""
        if self._per_s == 0:
            return True
        hash_ = int.from_bytes(hashlib.blake2b(address.encode(), digest_size=8, key=self._key).digest(), "big")
        cells = (0, hash_ % CELLS), (1, hash_ // CELLS % CELLS)
        moment, interval_s = self._clock(), 1.0 / self._per_s
        due_s = [max(float(self._due_s[cell]), moment) for cell in cells]
        if min(due_s) + interval_s > moment + BURST_S + interval_s / 2:
            return False
        for cell, cell_due_s in zip(cells, due_s, strict=True):
            self._due_s[cell] = cell_due_s + interval_s
        return True


def create_table(folder: Path) -> None:
    """Writes an empty table into `folder`, whole: a cell that had no room on a disk would end the process."""
    (folder / _FILE).write_bytes(os.urandom(_KEY_BYTES) + bytes(2 * CELLS * 8))
