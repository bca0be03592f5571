"""Shows what is said of recurrent translation models again and again: `make claims`, or `python -m benchmarks.claims`.

Trainings are described in `experiments.py`, kept one by one as they finish, and judged in `judged.py` by stated rules;
`docs/claims.md` is made of what is kept.
"""
