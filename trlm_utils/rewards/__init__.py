"""Rewards: reward functions, learned reward models, reward-hacking tests, interactive explorer."""
