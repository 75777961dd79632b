"""`python -m broker.storage FD`: the store process, on a socket that the broker has left open.

It ends when the broker says so or is gone, never by a signal that was meant for both.
"""

import signal
import sys

from broker.storage.worker import serve

if __name__ == "__main__":
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_IGN)
    sys.exit(serve(int(sys.argv[1])))
