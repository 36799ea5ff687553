"""What REST and gRPC share: the request's schema and decoding, who sent it, its story, its account, its refusals.

Both doors mean the same because both come through here; each keeps only its own wire format.
"""
