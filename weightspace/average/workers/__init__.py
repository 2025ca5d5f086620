"""Averages over workers: replicas that train apart and meet, as servers, peers
and outer optimisers."""
