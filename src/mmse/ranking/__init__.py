"""From the candidates of both channels to hits in their final order: fusion, calibration, guard, rules."""
