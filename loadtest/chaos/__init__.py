"""What a fault costs: a real cluster under steady mixed load, one thing broken at a time, every answer compared.

kinds.py says what is asked, asking.py asks, judge.py compares with the undisturbed answer, traffic.py does so all the
time; target.py is the cluster, faults/ break it, bench.py runs one fault after another, soak.py draws them. What must
not live here: what recovers (services/gateway, cluster/engine).
"""
