"""What the gRPC client sends, from keyword arguments; and its table of methods against the API's definition."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.core.errors import SetupError
from services.grpc.client import AsyncClient, Balancing, Client, Tls, methods
from services.grpc.client.channel import credentials_of, options_of, target_of
from services.grpc.client.request import OPTIONS, CallOptions, message_in, metadata_of, options_in
from services.grpc.generated.longreach.v1 import admin_pb2, chat_pb2, common_pb2, complete_pb2, inference_pb2

TABLE = [method for method in vars(methods).values() if isinstance(method, methods.Method)]


def test_every_method_of_the_api_is_there_and_takes_and_gives_what_it_says() -> None:
    services = [
        *inference_pb2.DESCRIPTOR.services_by_name.values(),
        *admin_pb2.DESCRIPTOR.services_by_name.values(),
    ]
    defined = {
        (f"/{service.full_name}/{method.name}", method.input_type, method.output_type)
        for service in services
        for method in service.methods
    }
    assert {(method.path, method.takes.DESCRIPTOR, method.gives.DESCRIPTOR) for method in TABLE} == defined


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_both_clients_have_every_method(client: type) -> None:
    for method in TABLE:
        snake = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in method.name).lstrip("_")
        assert method.does in getattr(client, snake).__doc__


def test_no_field_of_a_request_has_the_name_of_an_option() -> None:
    assert {field.name for method in TABLE for field in method.takes.DESCRIPTOR.fields} & OPTIONS == set()


def test_messages_are_dicts_or_messages_and_none_is_nothing() -> None:
    said = [{"role": "user", "content": "x"}, chat_pb2.ChatMessage(role="assistant")]
    request = message_in(chat_pb2.ChatRequest, {"model": "m", "messages": said, "seed": None, "timeout_s": 3})
    assert [message.role for message in request.messages] == ["user", "assistant"]
    assert not request.HasField("seed")


@pytest.mark.parametrize("given", ["a", ["a"], [common_pb2.Prompt(text="a")], [{"text": "a"}]])
def test_a_prompt_is_its_text(given: object) -> None:
    request = message_in(complete_pb2.CompleteRequest, {"prompts": given})
    assert list(request.prompts) == [common_pb2.Prompt(text="a")]


def test_a_prompt_is_its_token_ids() -> None:
    request = message_in(inference_pb2.EmbedRequest, {"inputs": [[1, 2], (3,)]})
    assert [list(prompt.token_ids.ids) for prompt in request.inputs] == [[1, 2], [3]]


def test_a_mistaken_name_is_said() -> None:
    with pytest.raises(ValueError, match="temprature"):
        message_in(chat_pb2.ChatRequest, {"temprature": 0})


def test_options_become_metadata() -> None:
    options = options_in({"model": "m", "priority": "high", "session": "s", "traceparent": "00-a-b-01", "timeout_s": 1})
    assert options == CallOptions(priority="high", session="s", traceparent="00-a-b-01", timeout_s=1)
    assert dict(metadata_of(options, api_key="k", request_id="r")) == {
        "authorization": "Bearer k",
        "x-request-id": "r",
        "x-longreach-priority": "high",
        "x-longreach-session": "s",
        "traceparent": "00-a-b-01",
    }
    further = options_in({"metadata": {"x-longreach-explain": "1"}})
    assert dict(metadata_of(further, api_key=None, request_id="r")) == {"x-request-id": "r", "x-longreach-explain": "1"}


def test_a_secret_that_cannot_travel_is_not_repeated() -> None:
    with pytest.raises(SetupError, match="authorization has characters") as raised:
        metadata_of(CallOptions(), api_key="secret\n", request_id="r")
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("gateway:8082", "dns:///gateway:8082"),
        ("[::1]:8082", "dns:///[::1]:8082"),
        ("dns:///gateway:8082", "dns:///gateway:8082"),
        ("ipv4:10.0.0.1:1,10.0.0.2:1", "ipv4:10.0.0.1:1,10.0.0.2:1"),
    ],
)
def test_an_address_is_resolved_by_name(address: str, target: str) -> None:
    assert target_of(address) == target


def test_a_channel_leaves_retries_to_the_client_and_loopback_alone() -> None:
    options = dict(options_of("gateway:1", Balancing.ROUND_ROBIN, 7))
    assert options["grpc.enable_retries"] == 0
    assert json.loads(options["grpc.service_config"]) == {"loadBalancingConfig": [{"round_robin": {}}]}
    assert options["grpc.max_send_message_length"] == options["grpc.max_receive_message_length"] == 7
    assert "grpc.enable_http_proxy" not in options
    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        assert dict(options_of(address, Balancing.PICK_FIRST, 7))["grpc.enable_http_proxy"] == 0


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"nowhere\.pem cannot be read: No such file"):
        credentials_of(Tls(root_file=tmp_path / "nowhere.pem"))
    with pytest.raises(SetupError, match="come together"):
        credentials_of(Tls(cert_file="cert.pem"))


def test_there_is_no_third_balancing() -> None:
    with pytest.raises(ValueError, match="least_busy"):
        Client("gateway:1", balancing="least_busy")
