"""A signal sets a flag; the second Ctrl-C ends the process at once, and says what that costs."""

import subprocess
import sys


def test_the_second_control_c_says_what_is_lost() -> None:
    script = (
        "import os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts background jobs without it\n"
        "from imgkit.signals import hear_signals\n"
        "with hear_signals() as request:\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print(request.stop, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('not reached')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "2\n")
    assert done.stderr == (
        "\nStopped at once: what came after the last checkpoint is lost. imgkit resume goes on from there.\n"
    )
