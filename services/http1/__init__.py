"""HTTP/1.1 on asyncio protocols: a server's and a client's connections, without a framework in between."""
