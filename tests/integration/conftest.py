"""Fixtures: a server per test module, and names that no other test uses."""

import itertools

import pytest
from harness import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory, request):
    """A running server of this module alone.  A module's `SERVER` holds options for it."""
    options = getattr(request.module, "SERVER", {})
    with Server(tmp_path_factory.mktemp("memfuse") / "data", **options) as running:
        yield running


@pytest.fixture
def api(server):
    with server.api() as client:
        yield client


_numbers = itertools.count(1)


@pytest.fixture
def fresh():
    """Makes a name that is new: fresh("user") gives "user-17"."""
    return lambda stem: f"{stem}-{next(_numbers)}"


@pytest.fixture
def user(api, fresh):
    return api.user(fresh("user"))


@pytest.fixture
def agent(api, fresh):
    return api.agent(fresh("agent"))


@pytest.fixture
def session(api, user, agent):
    return api.session(user, agent)
