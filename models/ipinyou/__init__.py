"""Does what we do for clicks work on real impressions? iPinYou's, as sampled or as published.

Research use only: the data stay where they are, and nothing of them is kept in this repository.
"""
