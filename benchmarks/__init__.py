"""Speed: the same work as a peer, in one run, as a ratio."""
