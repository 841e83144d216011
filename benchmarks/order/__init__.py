"""Concurrent programs, recorded with random latencies: how many are replayed exactly, and outlive `kill -9`.

    python -m benchmarks.order                        # every shape, 20 runs each
    python -m benchmarks.order --runs 100 --kills 20
    python -m benchmarks.order --shape wait_for --loop uvloop
    python -m benchmarks.order --generated 300        # programs that nobody wrote, cut off anywhere
    python -m benchmarks.order --forks 20             # every shape forked, and its forks forked, cut off and resumed
    python -m benchmarks.order --slow                 # a session of a minute, replayed

A shape is a program that makes agent calls side by side and lets what it says next depend on the order in which they ended.
No model may be asked in a replay. Those that are `silent` depend on timers or threads that change something without an
event: only a log of `lllm.Loop` has their order, so in another loop they are counted and not required.
"""
