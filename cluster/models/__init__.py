"""Models: the catalog, the store, the tiny test model.

The way in is `store.ModelStore`; what it hands out are `card.ModelCard`s and folders that vLLM can load.
No code from a model folder, a wheel or a hub repository is ever executed here.
"""
