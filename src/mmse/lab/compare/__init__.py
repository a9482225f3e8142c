"""Many systems, seeds and data sets held against one another: a grid of trainings, and what it says."""
