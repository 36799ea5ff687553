"""Files that other projects' tools are given: docs/judges.md says how they are run.

What must not live here: anything that Longreach imports.
"""
