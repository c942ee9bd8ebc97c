"""What is compiled within a block, by JAX's own report of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax


@contextmanager
def compiled(function: Callable[..., Any]) -> Iterator[list[str]]:
    """Grows by one for each program of a function that `jax.jit` has made, or of another with its name."""
    found: list[str] = []

    def listen(event: str, _: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and about["fun_name"] == f"jit({function.__name__})":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
