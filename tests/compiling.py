"""What is compiled within a block, by JAX's own report of it."""

from collections.abc import Iterator
from contextlib import contextmanager

import jax


@contextmanager
def compiled(name: str) -> Iterator[list[str]]:
    """Grows by one for each program of that function."""
    found: list[str] = []

    def listen(event: str, _: float, **about: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration" and about["fun_name"] == f"jit({name})":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
