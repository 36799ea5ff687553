"""`longreach k8s doctor`: one check a module, each a list of findings; run.py puts them together.

What must not live here: repairing anything, printing.
"""
