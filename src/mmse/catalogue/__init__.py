"""The live catalogue: a run's items with the edits since, on both channels at once, durable and without a rebuild."""

from mmse.catalogue.edits import Change, Delete, Edit, Upsert, parse
from mmse.catalogue.live_catalogue import Catalogue, LiveConfig
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.transfer import Carried, carry_over, discard

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
