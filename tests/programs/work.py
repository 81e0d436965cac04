"""Threads that wait for work, for each other and for the time; what is printed depends on neither speed nor order."""
import hashlib
import queue
import threading
import time

print("begins", flush=True)
jobs, done = queue.Queue(), {}


def work():
    while (number := jobs.get()) is not None:
        digest = str(number).encode()
        for _ in range(300):
            digest = hashlib.sha256(digest).digest()
        done[number] = digest.hex()


def tick(which):
    last = time.monotonic()
    for n in range(1800):
        time.sleep(0.005)
        now = time.monotonic()
        assert last <= now < last + 5, f"{now - last} s have passed"
        last = now
        jobs.put(which * 10000 + n)


workers = [threading.Thread(target=work) for _ in range(4)]
tickers = [threading.Thread(target=tick, args=(which,)) for which in range(3)]
timer = threading.Timer(7, lambda: jobs.put(99999))
for thread in workers + tickers + [timer]:
    thread.start()
for thread in tickers + [timer]:
    thread.join()
for _ in workers:
    jobs.put(None)
for thread in workers:
    thread.join()
print(len(done), hashlib.sha256(repr(sorted(done.items())).encode()).hexdigest())
