"""An API server in this process, strict about the wire: what a real kube-apiserver answers, for objects it is given.

TLS, bearer tokens, RBAC from Role and ClusterRole documents, lists in pages with continue tokens that expire, label and
field selectors, Status objects, access reviews, discovery. No kube-apiserver can be had from the package registries, so
this stands in for one; the objects are validated against Kubernetes' own schemas (tests/unit/kubernetes/objects.py).
What must not live here: leniency: a request that a real server would not understand fails the test.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.authority import Authority

HOST = "127.0.0.1"
TOKEN = "a-token-of-this-test"
USER = "system:serviceaccount:longreach:cli"
LIST_PARAMETERS = {"limit", "continue", "labelSelector", "fieldSelector"}
DISCOVERY = re.compile(r"/version|/apis(/[^/]+/[^/]+)?|/openapi/v3/apis/[^/]+/[^/]+")
OBJECTS = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+)/(?P<version>[^/]+))"
    r"(?:/namespaces/(?P<namespace>[^/]+))?/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?"
)
ALL = [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]


class WireError(AssertionError):
    """A request that no client of the real API would make."""


@dataclass(slots=True, kw_only=True)
class Cluster:
    """What the server has, and who may see it; tests change it while it runs."""

    version: str = "v1.34.2"
    kinds: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Plurals by group and version, beyond the core group: what discovery tells."""
    objects: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """By `plural` or `plural.group`."""
    openapi: dict[str, Any] = field(default_factory=dict)
    """By `group/version`."""
    roles: Sequence[Mapping[str, Any]] = ({"kind": "ClusterRole", "rules": ALL},)
    """Role and ClusterRole documents that are bound to the one user; a Role counts in its own namespace."""
    page_max: int = 500
    """The server's own limit, below what is asked for where a test wants pages."""
    expire_once: bool = False
    """The next continue token is too old."""
    broken: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Paths that answer with this status and body."""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """What was wrong with requests; a test asserts that there is nothing."""

    def allows(self, verb: str, group: str, plural: str, namespace: str | None) -> bool:
        """RBAC: any rule of a ClusterRole, or of a Role of that namespace."""
        for role in self.roles:
            if role["kind"] == "Role" and role["metadata"]["namespace"] != namespace:
                continue
            for rule in role["rules"]:
                if all(
                    "*" in rule[part] or value in rule[part]
                    for part, value in (("apiGroups", group), ("resources", plural), ("verbs", verb))
                ):
                    return True
        return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running server."""

    url: str
    ca_file: Path
    cluster: Cluster

    def kubeconfig(self, path: Path, *, token: str | None = TOKEN, namespace: str = "longreach", **user: Any) -> Path:
        """A kubeconfig for it, with the context `test`."""
        credentials = {"token": token, **user} if token is not None else user
        cluster = {"server": self.url, "certificate-authority": str(self.ca_file)}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "here", "cluster": cluster}],
            "users": [{"name": "me", "user": credentials}],
            "contexts": [{"name": "test", "context": {"cluster": "here", "user": "me", "namespace": namespace}}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path


@contextmanager
def serving(cluster: Cluster, authority: Authority) -> Iterator[Endpoint]:
    """Serve `cluster` on a free port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue("kube-apiserver"))
    handler = type("Handler", (_Handler,), {"cluster": cluster})
    server = ThreadingHTTPServer((HOST, 0), handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield Endpoint(url=f"https://localhost:{server.server_port}", ca_file=authority.file, cluster=cluster)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: otherwise the second waits for the first one's acknowledgement
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        """Discovery, one object, or a list."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Access reviews."""
        self._answer("POST")

    def _answer(self, method: str) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query, strict_parsing=bool(parts.query)).items()}
        self.cluster.requests.append((method, parts.path, query))
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        try:
            status, document = self._route(method, parts.path, query, body)
        except WireError as error:
            self.cluster.faults.append(str(error))
            status, document = _status(400, "BadRequest", str(error))
        content = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if isinstance(document, str) else "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _route(self, method: str, path: str, query: dict[str, str], body: bytes) -> tuple[int, Any]:
        """Who asks, what for, whether they may, and whether it is there: in the real server's order."""
        if self.headers.get("Accept") != "application/json":
            raise WireError(f"Accept is {self.headers.get('Accept')!r}")
        if path in self.cluster.broken:
            return self.cluster.broken[path]
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if token and (scheme.lower() != "bearer" or token != TOKEN):
            return _status(401, "Unauthorized", "Unauthorized")
        user = USER if token else "system:anonymous"
        if DISCOVERY.fullmatch(path):
            if user != USER and path != "/version":
                return _status(403, "Forbidden", f'forbidden: User "{user}" cannot get path "{path}"')
            return self._discovery(path)
        found = OBJECTS.fullmatch(path)
        if found is None:
            raise WireError(f"{path} is no path of the API")
        return self._kind(method, found, user, query, body)

    def _kind(
        self, method: str, found: re.Match[str], user: str, query: dict[str, str], body: bytes
    ) -> tuple[int, Any]:
        group, plural = found["group"] or "", found["plural"]
        verb = "create" if method == "POST" else "get" if found["name"] else "list"
        # As in the real request's attributes, a namespace is in itself.
        namespace = found["name"] if plural == "namespaces" else found["namespace"]
        # Every user may ask what they may do, by the default ClusterRole system:basic-user.
        is_review = group == "authorization.k8s.io"
        if user != USER or not (is_review or self.cluster.allows(verb, group, plural, namespace)):
            return _forbidden(user, verb, group, plural, namespace)
        if is_review:
            return 201, self._review(body)
        if group and not self.cluster.kinds.get((group, found["version"])):
            return 404, "404 page not found\n"
        if verb == "create":
            raise WireError(f"nothing is created at {found[0]}")
        return self._objects(plural, group, found["namespace"], found["name"], query)

    def _discovery(self, path: str) -> tuple[int, Any]:
        kinds = self.cluster.kinds
        if path == "/version":
            major, minor = re.match(r"v(\d+)\.(\d+)", self.cluster.version).groups()  # type: ignore[union-attr]
            return 200, {"major": major, "minor": minor, "gitVersion": self.cluster.version, "platform": "linux/amd64"}
        if path == "/apis":
            groups = [
                {"name": group, "versions": [{"groupVersion": f"{group}/{version}", "version": version}]}
                for group, version in kinds
            ]
            return 200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        _, _, tail = path.partition("/apis/")
        group, _, version = tail.partition("/")
        if path.startswith("/openapi"):
            found = self.cluster.openapi.get(tail)
            return (200, found) if found is not None else (404, "404 page not found\n")
        if (group, version) not in kinds:
            return 404, "404 page not found\n"
        resources = [{"name": plural, "namespaced": True, "verbs": ["list"]} for plural in kinds[group, version]]
        return 200, {"kind": "APIResourceList", "groupVersion": tail, "resources": resources}

    def _review(self, body: bytes) -> dict[str, Any]:
        review = json.loads(body)
        attributes = review["spec"]["resourceAttributes"]
        unknown = set(attributes) - {"verb", "group", "resource", "namespace", "name", "subresource", "version"}
        if review["kind"] != "SelfSubjectAccessReview" or unknown:
            raise WireError(f"not a review: {review}")
        allowed = self.cluster.allows(
            attributes["verb"], attributes["group"], attributes["resource"], attributes.get("namespace")
        )
        return {**review, "status": {"allowed": allowed}}

    def _objects(
        self, plural: str, group: str, namespace: str | None, name: str | None, query: dict[str, str]
    ) -> tuple[int, Any]:
        key = f"{plural}.{group}" if group else plural
        found = self.cluster.objects.get(key, [])
        if namespace is not None:
            found = [one for one in found if one["metadata"].get("namespace") == namespace]
        if name is not None:
            if query:
                raise WireError(f"one object is asked for with {query}")
            one = next((one for one in found if one["metadata"]["name"] == name), None)
            return (200, one) if one is not None else _status(404, "NotFound", f'{key} "{name}" not found')
        if set(query) - LIST_PARAMETERS or not query.get("limit", "").isdigit():
            raise WireError(f"a list of {key} is asked for with {query}")
        selected = [one for one in found if _selected(one, query)]
        return self._page(key, selected, query)

    def _page(self, key: str, selected: list[dict[str, Any]], query: dict[str, str]) -> tuple[int, Any]:
        start = 0
        if "continue" in query:
            place = json.loads(base64.urlsafe_b64decode(query["continue"]))
            if place["of"] != [key, query.get("labelSelector"), query.get("fieldSelector")]:
                raise WireError("a continue token of another list")
            if self.cluster.expire_once:
                self.cluster.expire_once = False
                return _status(410, "Expired", "The provided continue parameter is too old to display a list")
            start = place["start"]
        end = start + min(int(query["limit"]), self.cluster.page_max)
        metadata: dict[str, Any] = {"resourceVersion": "1000"}
        if end < len(selected):
            place = {"start": end, "of": [key, query.get("labelSelector"), query.get("fieldSelector")]}
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps(place).encode()).decode()
            metadata["remainingItemCount"] = len(selected) - end
        # A list's items have no kind of their own, as in the real API.
        items = [
            {part: value for part, value in one.items() if part not in {"kind", "apiVersion"}}
            for one in selected[start:end]
        ]
        return 200, {"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items or None}


def _selected(one: Mapping[str, Any], query: Mapping[str, str]) -> bool:
    labels = one["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        name, equals, value = term.partition("=")
        if not equals:
            raise WireError(f"label selector {term!r}")
        if labels.get(name) != value:
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        found = re.fullmatch(r"(?P<path>[a-zA-Z.]+)(?P<how>!=|=)(?P<value>.*)", term)
        if found is None:
            raise WireError(f"field selector {term!r}")
        value: Any = one
        for step in found["path"].split("."):
            value = (value or {}).get(step)
        if (value == found["value"]) is (found["how"] == "!="):
            return False
    return True


def _forbidden(user: str, verb: str, group: str, plural: str, namespace: str | None) -> tuple[int, Any]:
    scope = f'in the namespace "{namespace}"' if namespace is not None else "at the cluster scope"
    name = f"{plural}.{group}" if group else plural
    said = f'{name} is forbidden: User "{user}" cannot {verb} resource "{plural}" in API group "{group}" {scope}'
    return _status(403, "Forbidden", said)


def _status(code: int, reason: str, message: str) -> tuple[int, dict[str, Any]]:
    return code, {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }
