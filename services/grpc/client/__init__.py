"""A client of the gRPC API, for threads and for asyncio.

    with Client("gateway:8082", api_key=key) as client:
        answer = client.chat(model="demo", messages=[{"role": "user", "content": "Hello"}], timeout_s=60)
        print(answer.choices[0].message.content)
        with client.chat_stream(model="demo", messages=[…]) as stream:
            for message in stream:
                print("".join(delta.content for delta in message.deltas), end="")

A method's keyword arguments are its request's fields (services/grpc/proto) and `CallOptions`; answers are the API's
own messages. `AsyncClient` is the same with `await` and `async for`. What must not live here: anything of a gateway's,
which a client has no use for.
"""

from services.grpc.client.awaiting import AsyncClient, AsyncStream
from services.grpc.client.blocking import Client, Stream
from services.grpc.client.channel import Balancing, Tls
from services.grpc.client.errors import FieldViolation, GrpcCallError
from services.grpc.client.request import CallOptions
from services.grpc.client.retry import RetryPolicy

__all__ = [
    "AsyncClient",
    "AsyncStream",
    "Balancing",
    "CallOptions",
    "Client",
    "FieldViolation",
    "GrpcCallError",
    "RetryPolicy",
    "Stream",
    "Tls",
]
