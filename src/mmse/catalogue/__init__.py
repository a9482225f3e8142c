"""The live catalogue: a run's items with the edits since, durable, and seen by both channels without a rebuild."""

from mmse.catalogue.edits import Change, Delete, Edit, Upsert, parse_edit
from mmse.catalogue.live_catalogue import LiveCatalogue, LiveConfig
from mmse.catalogue.snapshot import Snapshot
from mmse.catalogue.transfer import TransferReport, carry_over, discard

__all__ = [
    "Change",
    "Delete",
    "Edit",
    "LiveCatalogue",
    "LiveConfig",
    "Snapshot",
    "TransferReport",
    "Upsert",
    "carry_over",
    "discard",
    "parse_edit",
]
