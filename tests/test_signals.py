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
        "\nStopped at once: what came after the last checkpoint is lost. Go on:  imgkit resume latest\n"
    )


def test_a_command_ends_cleanly_before_a_training_listens() -> None:
    script = (
        "import os, signal\n"
        "from imgkit.signals import ending_cleanly, hear_signals\n"
        "with ending_cleanly():\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    with hear_signals() as request:\n"
        "        os.kill(os.getpid(), signal.SIGUSR1)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    try:\n"
        "        print(request.save, request.stop)\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    finally:\n"
        "        print('tidied up')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (143, "True 15\ntidied up\n", "")
