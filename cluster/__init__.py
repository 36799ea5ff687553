"""The cluster: everything that makes and steers it."""
