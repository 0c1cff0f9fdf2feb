"""Rewards: the library, learned judges, the hack bench, the explorer."""
