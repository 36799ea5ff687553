"""Tells the gateways which prompt prefixes this replica's engine has cached, from the engine's own KV cache events.

Events come from the engine's process (events.py, over private sockets: sockets.py) into a tree of cache blocks
(tree.py), which knows the text of each block (tokens.py), whether that text would be tokenized to the same block again
(canonical.py) and what changed; service.py publishes the changes. content.py names model and adapters by their content.
Nothing here is on a request's path. What must not live here: Redis (cluster/state/residency.py), vLLM.
"""
