"""Going on with a stream whose replica was lost: the tokens that its client has are taken as made, the rest follows.

What must not live here: when a stream is resumed, and where (services/gateway).
"""
