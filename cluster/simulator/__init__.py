"""A cluster in discrete events, with the decisions of the production core. What must not live here: those decisions."""
