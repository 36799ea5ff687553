"""Plots for the planner and the simulator: text in, `<svg>` out.

What must not live here: what is plotted.
"""
