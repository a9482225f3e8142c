"""Any sequence of edits, reopenings and foldings gives what a dictionary would hold, on both channels and filtered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from catalogue.plain_model import Items, applied, check, read_items
from mmse.catalogue import Catalogue, Change, Delete, Edit, LiveConfig, Upsert
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
    st.builds(lambda item_id, more: Upsert({"item_id": item_id, "title": "yandle", **more}), ids, values),
    st.builds(Change, ids, values.filter(bool)),
    st.builds(Delete, ids, st.booleans()),
)


class Live(RuleBasedStateMachine):
    """One catalogue and a dictionary that is told the same."""

    run: Path
    encoder: Encoder

    @initialize()
    def start(self) -> None:
        self.items: Items = read_items(self.run)
        self.columns = list(self.items["i00000000"])
        self.version = 0
        self.catalogue = self.opened()
        self.reader = Catalogue.open(self.run, encoder=self.encoder)
        self.kept: tuple[Any, Items] | None = None

    def opened(self) -> Catalogue:
        return Catalogue.open(self.run, writable=True, encoder=self.encoder, config=LiveConfig(automatic=False))

    @rule(call=st.lists(edits, min_size=1, max_size=6))
    def edit(self, call: list[Edit]) -> None:
        after, fits = self.items, True
        for edit in call:
            there = isinstance(edit, Upsert) or edit.item_id in after
            fits = fits and (there or (isinstance(edit, Delete) and edit.missing_ok))
            if fits:
                after = applied(after, [edit], self.columns)
        if fits:
            self.version += 1
            self.items = after
            assert self.catalogue.apply(call) == self.version
        else:
            with pytest.raises(UsageError, match="There is no item"):
                self.catalogue.apply(call)
        assert self.catalogue.snapshot().version == self.version

    @rule()
    def compare(self) -> None:
        check(self.catalogue.snapshot(), self.items, WORDS, gone=IDS)

    @rule()
    def refresh(self) -> None:
        assert self.reader.refresh() == self.version
        check(self.reader.snapshot(), self.items, WORDS[:1], gone=IDS)

    @rule()
    def keep(self) -> None:
        if self.kept is not None:
            check(*self.kept, WORDS[:1])
        self.kept = self.catalogue.snapshot(), self.items

    @precondition(lambda self: self.version > 0)
    @rule()
    def fold(self) -> None:
        self.catalogue.compact()
        assert self.catalogue.snapshot().changed == 0

    @rule()
    def reopen(self) -> None:
        self.catalogue.close()
        self.catalogue = self.opened()
        assert self.catalogue.snapshot().version == self.version

    def teardown(self) -> None:
        if hasattr(self, "catalogue"):
            check(self.catalogue.snapshot(), self.items, WORDS, gone=IDS)
            self.catalogue.close()
            self.reader.close()


def test_any_sequence_agrees_with_a_dictionary(fresh: Callable[[], Path], encoder: Encoder) -> None:
    class Here(Live):
        def __init__(self) -> None:
            super().__init__()
            self.run, self.encoder = fresh(), encoder

    run_state_machine_as_test(
        Here,
        settings=settings(
            max_examples=12,
            stateful_step_count=14,
            deadline=None,
            derandomize=True,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
