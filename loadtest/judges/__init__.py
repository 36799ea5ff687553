"""Judges: other projects' load clients, run in turns with ours, to see whether both measure the same.

    rounds       ours, judge, judge, ours, …, each round a load that both can express
    ├── ours         our client's job, and its records
    ├── vllm_bench   `vllm bench serve`: its command line and its result file
    └── guidellm     guidellm: its configuration and its result file
    taken        one request as every tool can tell it, and the figures of many: one formula for all tools
    agreement    whether the figures agree within noise

What must not live here: what a judge is installed from (interpreter.py says how), drawing (cluster/cli).
"""
