"""Quality under load: questions with one right answer, asked under several conditions, and whether the answers agree.

    question_set  the questions of a seed: needle, join, order, count, in English and Chinese, at lengths and depths
    └── asking    sends them one at a time with the load client, alone or beside a load (beside.py)
        └── verdict   accuracy with intervals, differences between conditions, whether the conditions held

What must not live here: sending (loadtest/client), filler text (loadtest/text).
"""
