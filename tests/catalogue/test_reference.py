"""Any sequence of edits, reopenings and foldings gives what a dictionary would hold, on both channels and filtered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from catalogue.reference_model import Items, apply_edits, check_snapshot, read_items
from mmse.catalogue import Change, Delete, Edit, LiveCatalogue, LiveConfig, Upsert
from mmse.core.errors import UsageError
from mmse.model.encoder import Encoder

WORDS = ("zorbak", "fimtul", "quevo", "yandle")
IDS = [*(f"n{n}" for n in range(5)), *(f"i{row:08d}" for row in range(6))]

ids = st.sampled_from(IDS)
values = st.fixed_dictionaries(
    {},
    optional={
        "title": st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(" ".join),
        "brand": st.sampled_from([None, "zorbak", "fimtul", "other"]),
        "category": st.sampled_from([None, "Zone", "Zone > A", "Zone > A > B", "Zone > Ab"]),
        "price": st.sampled_from([None, 0.0, 5.0, 12.5, 20.0, 99.0]),
        "available": st.sampled_from([None, True, False]),
    },
)
edits = st.one_of(
    st.builds(lambda item_id, columns: Upsert({"item_id": item_id, "title": "yandle", **columns}), ids, values),
    st.builds(Change, ids, values.filter(bool)),
    st.builds(Delete, ids, st.booleans()),
)


class CatalogueMachine(RuleBasedStateMachine):
    """One catalogue and a dictionary that get the same edits."""

    run: Path
    encoder: Encoder

    @initialize()
    def start(self) -> None:
        self.items: Items = read_items(self.run)
        self.columns = list(self.items["i00000000"])
        self.version = 0
        self.catalogue = self.open_writable()
        self.reader = LiveCatalogue.open(self.run, encoder=self.encoder)
        self.checkpoint: tuple[Any, Items] | None = None

    def open_writable(self) -> LiveCatalogue:
        return LiveCatalogue.open(self.run, writable=True, encoder=self.encoder, config=LiveConfig(automatic=False))

    @rule(call=st.lists(edits, min_size=1, max_size=6))
    def edit(self, call: list[Edit]) -> None:
        items, fits = self.items, True
        for edit in call:
            is_known = isinstance(edit, Upsert) or edit.item_id in items
            fits = fits and (is_known or (isinstance(edit, Delete) and edit.missing_ok))
            if fits:
                items = apply_edits(items, [edit], self.columns)
        if fits:
            self.version += 1
            self.items = items
            assert self.catalogue.apply(call) == self.version
        else:
            with pytest.raises(UsageError, match="There is no item"):
                self.catalogue.apply(call)
        assert self.catalogue.snapshot().version == self.version

    @rule()
    def compare(self) -> None:
        check_snapshot(self.catalogue.snapshot(), self.items, WORDS, deleted_ids=IDS)

    @rule()
    def refresh(self) -> None:
        assert self.reader.refresh() == self.version
        check_snapshot(self.reader.snapshot(), self.items, WORDS[:1], deleted_ids=IDS)

    @rule()
    def take_checkpoint(self) -> None:
        if self.checkpoint is not None:
            check_snapshot(*self.checkpoint, WORDS[:1])
        self.checkpoint = self.catalogue.snapshot(), self.items

    @precondition(lambda self: self.version > 0)
    @rule()
    def fold(self) -> None:
        self.catalogue.compact()
        assert self.catalogue.snapshot().n_changed == 0

    @rule()
    def reopen(self) -> None:
        self.catalogue.close()
        self.catalogue = self.open_writable()
        assert self.catalogue.snapshot().version == self.version

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            check_snapshot(self.catalogue.snapshot(), self.items, WORDS, deleted_ids=IDS)
            self.catalogue.close()
            self.reader.close()


def test_any_sequence_agrees_with_a_dictionary(copy_unedited: Callable[[], Path], encoder: Encoder) -> None:
    class RunMachine(CatalogueMachine):
        def __init__(self) -> None:
            super().__init__()
            self.run, self.encoder = copy_unedited(), encoder

    run_state_machine_as_test(
        RunMachine,
        settings=settings(
            max_examples=8,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
