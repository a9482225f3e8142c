"""The command line as a module: `python -m mmse`, or `torchrun -m mmse train` for several processes."""

from mmse.cli import main

main()
