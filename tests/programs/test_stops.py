"""Requests to stop: whatever a program does when one comes, it ends with 128 and the signal's number, and one line.

Without JAX: what a program does is a few lines of Python here, each of which lost or delayed a KeyboardInterrupt.
"""

import signal
import subprocess
import sys

import pytest

PRELUDE = """
import gc, hashlib, os, signal, sys, threading, time
from vdm.programs import process, stops
stops.GRACE = 0.3
ready = lambda: os.write(1, b"ready")
"""

WORK = {
    "sleeps": "def program(): ready(); time.sleep(60)",
    # Where Python prints the exception and goes on.
    "is in a callback of the garbage collector": """
def slow(phase, info):
    ready()
    for _ in range(10): time.sleep(0.1)
def program():
    gc.callbacks.append(slow)
    while True: gc.collect()
""",
    "is in a finalizer": """
class Slow:
    def __del__(self): ready(); time.sleep(1)
def program():
    Slow()
    time.sleep(60)
""",
    "catches everything": """
def program():
    ready()
    while True:
        try: time.sleep(60)
        except BaseException: pass
""",
    "makes another error of it": """
def program():
    ready()
    try: time.sleep(60)
    except BaseException as error: raise RuntimeError("INTERNAL: Python callback failed") from None
""",
    # As a compiled program does: no line of Python is run for long.
    "is in C": "def program(): ready(); hashlib.pbkdf2_hmac('sha512', b'', b'', 2**31 - 1)",
    "goes on to its end": """
def program():
    ready()
    try: time.sleep(60)
    except BaseException: return 0
""",
    "hangs as it cleans up": """
def program():
    ready()
    try: time.sleep(60)
    finally: time.sleep(60)
""",
    # C++ may crash of an exception then.
    "is importing": """
import tempfile
folder = tempfile.TemporaryDirectory()
open(folder.name + "/slow_module.py", "w").write(
    "import os, time; os.write(1, b'ready')\\ntry: time.sleep(60)\\nexcept BaseException: os._exit(77)")
sys.path.insert(0, folder.name)
def program(): import slow_module
""",
    "waits for a thread at the end": """
def program():
    thread = threading.Thread(target=time.sleep, args=(60,))
    thread.start()
    ready()
    thread.join()
""",
}


def start(source: str) -> subprocess.Popen[str]:
    """A process that runs `program` of the source, and that has said it is ready."""
    command = [sys.executable, "-c", f"{PRELUDE}\n{source}\nprocess.run(program)"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.read(5) == "ready"
    return process


def end(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit status and stderr of a process that is to end soon, and else hangs."""
    try:
        _, said = process.communicate(timeout=20)
    finally:
        process.kill()
    return process.returncode, said


@pytest.mark.parametrize("source", WORK.values(), ids=WORK)
def test_ctrl_c_ends_a_program_that(source: str) -> None:
    process = start(source)
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "error: interrupted\n")


@pytest.mark.parametrize(("number", "word"), [(signal.SIGTERM, "terminated"), (signal.SIGHUP, "hung up")])
def test_other_signals_have_their_own_status(number: signal.Signals, word: str) -> None:
    process = start(WORK["sleeps"])
    process.send_signal(number)
    assert end(process) == (128 + number, f"error: {word}\n")


def test_nohup_is_heeded() -> None:
    process = start("signal.signal(signal.SIGHUP, signal.SIG_IGN)\ndef program(): ready(); time.sleep(1)")
    process.send_signal(signal.SIGHUP)
    assert end(process) == (0, "")


GRACEFUL = """
def program():
    with stops.gracefully() as received:
        ready()
        while not received: time.sleep(0.01)
        os.write(2, b"saved\\n")
        time.sleep(LAST)
        AT_THE_END
"""


def graceful(last: float = 0, at_the_end: str = "pass") -> str:
    return GRACEFUL.replace("LAST", str(last)).replace("AT_THE_END", at_the_end)


def test_training_says_that_it_stops_and_is_not_hurried() -> None:
    process = start(graceful(last=1, at_the_end="raise SystemExit(130)"))
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "stopping after this step; again to stop now\nsaved\n")


def test_what_nothing_answered_acts_at_the_end() -> None:
    """It came after the last place where training looks: a comparison must not go on with its next run."""
    process = start(graceful() + "    time.sleep(60)")
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "stopping after this step; again to stop now\nsaved\nerror: interrupted\n")


def test_a_second_signal_stops_training_at_once() -> None:
    process = start(graceful(last=60))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "stopping after this step; again to stop now\n"
    assert process.stderr.readline() == "saved\n"
    process.send_signal(signal.SIGTERM)
    assert end(process) == (143, "error: terminated\n")


def test_the_first_is_answered_while_a_step_is_computed() -> None:
    source = """
def program():
    with stops.gracefully():
        ready()
        hashlib.pbkdf2_hmac("sha512", b"", b"", 2**31 - 1)
"""
    process = start(source)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert process.stderr.readline() == "stopping after this step; again to stop now\n"
    process.send_signal(signal.SIGINT)
    assert end(process) == (130, "error: interrupted\n")


def test_training_in_another_thread_leaves_signals_alone() -> None:
    source = """
def train():
    with stops.gracefully() as received: print(received)
def program():
    thread = threading.Thread(target=train); thread.start(); thread.join(); ready()
    time.sleep(60)
"""
    command = [sys.executable, "-c", f"{PRELUDE}\n{source.replace('time.sleep(60)', 'pass')}\nprocess.run(program)"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (result.stdout, result.stderr) == ("[]\nready", "")


def test_a_signal_with_a_handler_of_ones_own_ends_nothing() -> None:
    """As Slurm's, that announces the end of the time."""
    source = """
def program():
    signal.signal(signal.SIGUSR1, lambda *of: None)
    ready()
    time.sleep(1)
"""
    process = start(source)
    process.send_signal(signal.SIGUSR1)
    assert end(process) == (0, "")


def test_a_bug_is_a_traceback() -> None:
    status, said = end(start("def program(): ready(); raise KeyError('a bug')"))
    assert status == 1
    assert said.startswith("Traceback")
    assert said.endswith("KeyError: 'a bug'\n")
