"""Ray Serve: builds the pools' applications and says how they are."""
