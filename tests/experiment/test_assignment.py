"""Assignment: everybody stays where they are, experiments do not meet, and the hash is the one that is written down."""

from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmse.core.errors import UsageError
from mmse.experiment.assignment import (
    BUCKETS,
    HOLDOUT,
    Arm,
    Experiment,
    ExperimentState,
    Explore,
    add_experiment,
    assign,
    bucket_of,
    fraction,
    raise_traffic,
    read_experiment,
)

HALVES = {"control": Arm(), "treatment": Arm(serves="dssm")}
UNITS = [f"u{n}" for n in range(20_000)]


def state_of(*experiments: Experiment, holdout: float = 0.0) -> ExperimentState:
    state = ExperimentState(holdout=holdout)
    for experiment in experiments:
        state = add_experiment(state, experiment)
    return state


def arms(state: ExperimentState, unit: str) -> dict[str, str]:
    return dict(assign(state, user_id=unit).arms)


def test_the_hash_is_the_one_that_is_written_down() -> None:
    for salt, unit in (("search", "u17"), ("größe", "käufer 🛒"), ("a", "")):
        digest = sha256(f"{salt}:{unit}".encode()).hexdigest()
        assert fraction(salt, unit) == int(digest[:16], 16) / 2**64
    assert bucket_of("search", "u17") == 9713
    assert Experiment("try", HALVES).arm_of("u17") == "treatment"
    assert Experiment("try", HALVES).arm_of("u22") == "control"
    assert 0 <= bucket_of("search", "x" * 10_000) < BUCKETS


def test_arms_get_their_weights() -> None:
    three = Experiment("t", {"a": Arm(), "b": Arm(), "c": Arm(2.0)}, traffic=0.5)
    counts = Counter(arms(state_of(three), unit).get("t") for unit in UNITS)
    expected = [len(UNITS) * share for share in (0.5, 0.125, 0.125, 0.25)]
    assert stats.chisquare([counts[arm] for arm in (None, "a", "b", "c")], expected).pvalue > 0.001


def test_one_layer_never_has_a_unit_twice_and_layers_are_independent() -> None:
    first, second = Experiment("a", HALVES, traffic=0.4), Experiment("b", HALVES, traffic=0.6)
    other = Experiment("c", {"x": Arm(), "y": Arm(explore=Explore(0.1))}, layer="pages")
    both = state_of(first, second, other)
    assigned_arms = [arms(both, unit) for unit in UNITS]
    assert all(len({"a", "b"} & set(arms_of_unit)) == 1 for arms_of_unit in assigned_arms)
    table = Counter((row.get("a") or row["b"], row["c"]) for row in assigned_arms)
    counts = [[table[arm, page] for page in ("x", "y")] for arm in HALVES]
    assert stats.chi2_contingency(counts).pvalue > 0.001


@given(st.floats(0.001, 0.5), st.floats(0.5, 1), st.text(min_size=1, max_size=20))
def test_more_traffic_moves_nobody(before: float, after: float, unit: str) -> None:
    small = state_of(Experiment("a", HALVES, traffic=before))
    was, now = arms(small, unit), arms(raise_traffic(small, "a", after), unit)
    assert was == now or not was


def test_ramps_between_others_keep_buckets_apart() -> None:
    full = state_of(*(Experiment(name, HALVES, traffic=0.2) for name in "abc"))
    full = raise_traffic(raise_traffic(full, "a", 0.4), "c", 0.4)
    owned = [
        bucket for allocation in full.experiments for start, end in allocation.buckets for bucket in range(start, end)
    ]
    assert sorted(owned) == list(range(BUCKETS))
    with pytest.raises(UsageError, match=r"has 0\.00% of its units left, 'b' wants 5.00% more"):
        raise_traffic(full, "b", 0.25)
    with pytest.raises(UsageError, match="less would put shoppers out of it"):
        raise_traffic(full, "a", 0.1)
    with pytest.raises(UsageError, match="No experiment 'd' runs"):
        raise_traffic(full, "d", 0.1)
    with pytest.raises(UsageError, match="'traffic' is 2"):
        raise_traffic(full, "a", 2.0)


def test_holdout_exclusion_and_missing_units() -> None:
    state = state_of(Experiment("a", HALVES, exclude=("u1",)), holdout=0.1)
    holdout_units = [unit for unit in UNITS if HOLDOUT in arms(state, unit)]
    assert len(holdout_units) / len(UNITS) == pytest.approx(0.1, abs=0.01)
    assert all(arms(state, unit) == {HOLDOUT: HOLDOUT} for unit in holdout_units)
    assert not arms(state_of(Experiment("a", HALVES, exclude=("u1",))), "u1")
    assert not assign(state, request_id="r1").arms
    by_request = state_of(Experiment("a", HALVES, unit="request"))
    assert assign(by_request, user_id="u1", request_id="r1").arms


def test_settings_of_layers_come_together() -> None:
    explore = {"x": Arm(explore=Explore(0.2)), "y": Arm(explore=Explore(0.2))}
    state = state_of(
        Experiment("a", {"c": Arm(serves="dssm"), "t": Arm(serves="dssm")}), Experiment("b", explore, layer="p")
    )
    assert assign(state, user_id="u").setting == Arm(serves="dssm", explore=Explore(0.2))
    assert assign(state, user_id="u").arm is None
    with pytest.raises(UsageError, match="would both set serves"):
        add_experiment(state, Experiment("c", HALVES, layer="third"))
    with pytest.raises(UsageError, match="An experiment 'a' runs"):
        add_experiment(state, Experiment("a", HALVES))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "missing required field"),
        ('name = "a"\n[arms.x]', "two arms or more"),
        ('name = "a"\n[arms.x]\nweight = 0\n[arms.y]', "'weight' is 0"),
        ('name = "a"\n[arms.x]\nwait = 0\n[arms.y]', "wait"),
        ('name = "🛒"\n[arms.x]\n[arms.y]', "letters, digits"),
        ('name = "a"\ntraffic = 1.5\n[arms.x]\n[arms.y]', "'traffic' is 1.5"),
        ('name = "a"\n[arms.x]\nexplore = {share = 2}\n[arms.y]', "'share' is 2"),
        ("name = ", "not valid TOML"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "e.toml").write_text(text, "utf-8")
    with pytest.raises(UsageError, match=message):
        read_experiment(tmp_path / "e.toml")
