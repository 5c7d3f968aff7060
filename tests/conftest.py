"""What every test may rely on."""

import signal

# A run started in the background of a shell ignores SIGINT; the tests of Ctrl-C need the handler
# that Python installs otherwise.
signal.signal(signal.SIGINT, signal.default_int_handler)
