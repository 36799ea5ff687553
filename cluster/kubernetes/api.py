"""Reading from the API server, with the official client: every call bounded, every list in pages.

One wait is not: where a kubeconfig's credentials expire, the client runs its log-in program before a call, for as long
as that takes (connection.py).

Objects stay the JSON they are: only a few fields of each matter, and the client's models would refuse what an older or
newer server adds. What must not live here: finding the server and the credentials (connection.py), what objects mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from cluster.kubernetes.faults import AbsentError, CredentialsError, DeniedError, UnreachableError
from cluster.kubernetes.resources import Resource

if TYPE_CHECKING:
    from kubernetes.client import ApiClient

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0
"""A server that is there accepts in milliseconds; five seconds allow for a VPN that is waking up."""
READ_TIMEOUT_S = 20.0
"""A page of a list on a large and busy cluster takes seconds; the server itself gives up after 60."""
CONNECT_RETRIES = 1
"""One: a load balancer may have closed an idle connection. More would only make an unreachable server slower to say."""
PAGE_OBJECTS = 500
"""As kubectl: the server's memory is spared, and a page is a few MB."""
PAGES_MAX = 400
"""200,000 objects: a cluster is supported up to 150,000 pods."""
ANSWER_BYTES_MAX = 128 << 20
"""A page of 500 large pods is some 20 MB; what is much larger is not a Kubernetes API's answer."""
LIST_TRIES = 2
"""A list whose token expired (five minutes by default) is read anew once; a second time it would not end either."""
ANONYMOUS = "system:anonymous"
UNKNOWN_PATH = b"404 page not found"
_WHO = re.compile(r'User "(?P<name>[^"]{1,256})"')


class ClusterApi:
    """The API server of one cluster, as one caller sees it.

    Every method raises a fault of cluster/kubernetes/faults.py.
    """

    def __init__(self, client: ApiClient, *, namespace: str) -> None:
        self._client = client
        self.namespace = namespace
        """The release's."""
        self.host = str(client.configuration.host)

    def close(self) -> None:
        """Give connections back."""
        self._client.close()

    def get(self, resource: Resource, name: str, *, namespace: str | None = None) -> dict[str, Any]:
        """One object."""
        answer = self._ask("GET", resource.path(namespace, name), resource=resource, verb="get", namespace=namespace)
        return _object(answer, self.host)

    def each(
        self, resource: Resource, *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> Iterator[dict[str, Any]]:
        """Every object of a kind, in a namespace or (None) in all; read page by page while it is consumed.

        Args:
            resource: the kind.
            namespace: where; None means everywhere.
            labels: a label selector.
            fields: a field selector.
        """
        where = resource.path(namespace)
        query = {name: value for name, value in (("labelSelector", labels), ("fieldSelector", fields)) if value}
        token = ""
        for _ in range(PAGES_MAX):
            page = {**query, "limit": str(PAGE_OBJECTS), **({"continue": token} if token else {})}
            answer = _object(
                self._ask("GET", where, query=page, resource=resource, verb="list", namespace=namespace), self.host
            )
            yield from answer.get("items") or ()
            token = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                return
        raise UnreachableError(
            f"there are more than {PAGES_MAX * PAGE_OBJECTS:,} {resource.name}", "this is more than can be looked at"
        )

    def read(
        self, resource: Resource, *, namespace: str | None = None, labels: str = "", fields: str = ""
    ) -> list[dict[str, Any]]:
        """`each`, all of them."""
        return self.reduce(resource, lambda found: [*found], namespace=namespace, labels=labels, fields=fields)

    def reduce(
        self,
        resource: Resource,
        make: Callable[[Iterator[dict[str, Any]]], T],
        *,
        namespace: str | None = None,
        labels: str = "",
        fields: str = "",
    ) -> T:
        """What `make` makes of `each`, so that a list of 150,000 pods is never held; `make` is called anew where the
        server forgot its place between two pages.
        """
        for left in reversed(range(LIST_TRIES)):
            try:
                return make(self.each(resource, namespace=namespace, labels=labels, fields=fields))
            except ExpiredError:
                if not left:
                    raise
        raise AssertionError("a list is read or its fault is raised")

    def create(self, resource: Resource, body: Mapping[str, Any], *, namespace: str | None = None) -> dict[str, Any]:
        """Post an object: used for reviews, which the server answers and does not keep."""
        path = resource.path(namespace)
        answer = self._ask("POST", path, body=body, resource=resource, verb="create", namespace=namespace)
        return _object(answer, self.host)

    def document(self, path: str) -> Any:
        """A JSON document outside the kinds: `/version`, `/apis`.

        Raises:
            AbsentError: the server has none there.
        """
        return self._ask("GET", path)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        resource: Resource | None = None,
        verb: str = "get",
        namespace: str | None = None,
    ) -> Any:
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        # The media types a real client offers; without one some proxies answer in HTML.
        headers = {"Accept": "application/json", **({"Content-Type": "application/json"} if body is not None else {})}
        request = self._client.param_serialize(
            method,
            path,
            query_params=[*(query or {}).items()],
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        try:
            answer = self._client.call_api(*request, _request_timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S))
            content = answer.response.read(ANSWER_BYTES_MAX + 1)
            answer.response.release_conn()
        except (HTTPError, ApiException) as error:  # the client's own: TLS that failed
            raise unreachable(self.host, error) from error
        if len(content) > ANSWER_BYTES_MAX:
            raise UnreachableError(f"{self.host} answers with over {ANSWER_BYTES_MAX:,} bytes", _OTHER_SERVER)
        document = _json(content)
        # What a path of no known group and version gets; it is no JSON.
        is_unknown_path = content.strip() == UNKNOWN_PATH
        if answer.status < HTTPStatus.MULTIPLE_CHOICES:
            if document is None:
                raise UnreachableError(f"{self.host} does not answer in JSON at {path}", _OTHER_SERVER)
            return document
        if answer.status == HTTPStatus.NOT_FOUND and (is_unknown_path or _is_status(document)):
            what = resource.name if resource is not None else path
            said = document["message"] if _is_status(document) else "no such API"
            raise AbsentError(f"{self.host} has no {what}: {said}", "install what brings it, or name what is there")
        raise self._fault(answer.status, document, path, resource=resource, verb=verb, namespace=namespace)

    def _fault(
        self, status: int, document: Any, path: str, *, resource: Resource | None, verb: str, namespace: str | None
    ) -> Exception:
        said = str(document.get("message", "")) if _is_status(document) else ""
        who = found["name"] if (found := _WHO.search(said)) else ""
        if status == HTTPStatus.UNAUTHORIZED or (status == HTTPStatus.FORBIDDEN and who == ANONYMOUS):
            return CredentialsError(
                f"the API server at {self.host} does not know this user ({status})",
                "the kubeconfig's credentials are missing or expired: log in again, then check with "
                "`kubectl auth whoami`",
            )
        if status == HTTPStatus.FORBIDDEN and resource is not None:
            return DeniedError(verb=verb, resource=resource, namespace=namespace, who=who)
        if status == HTTPStatus.GONE:
            return ExpiredError(f"the list at {path} changed too much while it was read", "run the command again")
        as_kubernetes = f"at {path}: {said}" if _is_status(document) else f"at {path}, and not as a Kubernetes API"
        remedy = "try again in a moment" if _is_status(document) else _OTHER_SERVER
        return UnreachableError(f"{self.host} answers {status} {as_kubernetes}", remedy)


class ExpiredError(UnreachableError):
    """A list's place was forgotten by the server."""


_OTHER_SERVER = "check `server` in the kubeconfig: something else, such as a proxy or a login page, answers there"


def unreachable(host: str, error: BaseException) -> UnreachableError:
    """Why there is no answer, in the words of the deepest cause."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, ReadTimeoutError, SSLError

    cause = error.reason if isinstance(error, MaxRetryError) and error.reason is not None else error
    if isinstance(cause, SSLError):
        return UnreachableError(
            f"{host} cannot be trusted: {cause}",
            "the kubeconfig's certificate-authority is not the one of this server: fetch a new kubeconfig",
        )
    if isinstance(cause, ReadTimeoutError):
        return UnreachableError(
            f"{host} accepted the connection and did not answer within {READ_TIMEOUT_S:g} s",
            "the API server is overloaded, or a proxy holds the request: try again",
        )
    said = f"no connection within {CONNECT_TIMEOUT_S:g} s" if isinstance(cause, ConnectTimeoutError) else str(cause)
    return UnreachableError(
        f"the API server at {host} cannot be reached: {said}",
        "check the network (VPN, proxy) and the context: `kubectl config get-contexts`",
    )


def _is_status(document: Any) -> bool:
    return isinstance(document, dict) and document.get("kind") == "Status"


def _json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except ValueError:
        return None


def _object(document: Any, host: str) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise UnreachableError(f"{host} answers with no object", _OTHER_SERVER)
    return document
