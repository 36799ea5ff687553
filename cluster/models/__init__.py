"""Models: the catalog, the store, the tiny test model."""
