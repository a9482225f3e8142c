"""The commands of `mmse experiment`: running, planning and judging a test of two ways to search."""

from __future__ import annotations

import typer

from mmse.cli.experiment import analyse, interleaving, lifecycle, off_policy, plan, simulate

experiment_app = typer.Typer(
    name="experiment",
    help="Tests of one way to search against another: run, planned, judged, simulated.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_COMMANDS = (
    ("start", lifecycle.start, "mmse experiment start site experiment.toml"),
    ("ramp", lifecycle.ramp, "mmse experiment ramp site mmse-against-dssm 0.5"),
    ("stop", lifecycle.stop, 'mmse experiment stop site mmse-against-dssm --note "treatment won"'),
    ("list", lifecycle.list_, "mmse experiment list site"),
    ("assign", lifecycle.show_arms, "mmse experiment assign site u17 u18"),
    ("simulate", simulate.simulate, "mmse experiment simulate --out online"),
    ("plan", plan.plan, "mmse experiment plan shop/events --effect 0.03"),
    ("off-policy", off_policy.off_policy, "mmse experiment off-policy new-run --log site/events --arm explores"),
    ("analyse", analyse.analyse, "mmse experiment analyse site/events --experiment try --report try.html"),
    ("interleaved", interleaving.judge, "mmse experiment interleaved site/events --experiment mix"),
    ("holdout", lifecycle.holdout, "mmse experiment holdout site 0.05"),
)
for _name, _function, _example in _COMMANDS:
    experiment_app.command(_name, epilog=f"Example: {_example}")(_function)
