"""The main thread has ended, and others go on: what is printed depends on neither speed nor order."""
import ctypes
import hashlib
import os
import queue
import sys
import threading
import time

jobs, done = queue.Queue(), {}


def work():
    while (number := jobs.get()) is not None:
        digest = str(number).encode()
        for _ in range(300):
            digest = hashlib.sha256(digest).digest()
        done[number] = digest.hex()


def lead():
    # As long as it is there, the main thread shows what it has.
    while os.path.exists("/proc/self/exe"):
        time.sleep(0.001)
    print("begins", flush=True)
    workers = [threading.Thread(target=work) for _ in range(3)]
    for thread in workers:
        thread.start()
    for number in range(3000):
        time.sleep(0.002)
        jobs.put(number)
    for _ in workers:
        jobs.put(None)
    for thread in workers:
        thread.join()
    print(len(done), hashlib.sha256(repr(sorted(done.items())).encode()).hexdigest())
    sys.stdout.flush()
    os._exit(0)


threading.Thread(target=lead).start()
SYS_EXIT = 60
ctypes.CDLL(None).syscall(SYS_EXIT, 0)
