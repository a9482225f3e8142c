"""The live catalogue: a run's items with the edits since, on both channels at once, durable and without a rebuild."""

from mmse.live.carry import Carried, carry_over, discard
from mmse.live.catalogue import Catalogue, LiveConfig
from mmse.live.edits import Change, Delete, Edit, Upsert, parse
from mmse.live.snapshot import Snapshot

__all__ = [
    "Carried",
    "Catalogue",
    "Change",
    "Delete",
    "Edit",
    "LiveConfig",
    "Snapshot",
    "Upsert",
    "carry_over",
    "discard",
    "parse",
]
