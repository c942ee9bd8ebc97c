"""Whether a run on GPUs goes on to the bit, by the records of its sessions; of devices that need not be there."""

from typing import Any

import pytest

from vdm.config import Config, TrainingConfig
from vdm.runs.records import inexact_resume, session_record

H100 = {
    "platform": "gpu", "kind": "NVIDIA H100 80GB HBM3", "runtime": "cuda 12080", "num_devices": 1, "num_processes": 1,
    "fsdp": 1,
}  # fmt: skip
CPU = H100 | {"platform": "cpu", "kind": "cpu", "runtime": "cpu", "num_devices": 2}


def session(devices: dict[str, Any], deterministic: bool = True, jax: str = "0.11.2", **more: Any) -> dict[str, Any]:
    made = session_record(Config(training=TrainingConfig(deterministic=deterministic)), devices)
    return made | {"versions": made["versions"] | {"jax": jax}} | more


EARLIER = {
    "devices": {name: value for name, value in H100.items() if name != "runtime"},
    "versions": session(H100)["versions"],
}


def test_what_a_session_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=0")
    assert [session(H100, given)["deterministic"] for given in (True, False)] == [True, False]
    # There is one order of everything on a CPU.
    assert session(CPU, False)["deterministic"]
    assert session(H100)["xla_flags"] == "--xla_gpu_autotune_level=0"


@pytest.mark.parametrize(
    ("before", "now", "why"),
    [
        (session(H100), session(H100), None),
        (session(CPU, False), session(CPU | {"num_devices": 8}, False, "0.12.0"), None),
        (session(H100), session(H100 | {"kind": "NVIDIA H200"}), "on another card"),
        (session(H100), session(CPU), "on another card, on another number of devices, with another jax or CUDA"),
        (session(H100), session(H100 | {"num_devices": 8}), "on another number of devices"),
        (session(H100), session(H100, jax="0.12.0"), "with another jax or CUDA"),
        (session(H100), session(H100 | {"runtime": "cuda 13000"}), "with another jax or CUDA"),
        (session(H100), session(H100, xla_flags="--xla_gpu_autotune_level=0"), "with other XLA_FLAGS"),
        (session(H100, False), session(H100), "without training.deterministic"),
        (session(H100), session(H100, False), "without training.deterministic"),
        # An earlier version did not say the runtime, the flags, or whether it was deterministic.
        (EARLIER, session(H100), "without training.deterministic:"),
        (EARLIER, session(H100 | {"kind": "NVIDIA H200"}), "on another card, without training.deterministic:"),
        ({"devices": {"platform": "gpu"}}, session(H100), "without training.deterministic:"),
    ],
)
def test_why_a_run_does_not_go_on_to_the_bit(before: dict[str, Any], now: dict[str, Any], why: str | None) -> None:
    said = inexact_resume(before, now)
    if why is None:
        assert said is None
    else:
        assert said is not None
        assert said.startswith(f"resumed {why}")
        assert said.endswith(": the next steps will not match an uninterrupted run bit for bit")
        assert "\n" not in said
