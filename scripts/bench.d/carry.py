"""Moves a process with criu: the part that runs on each host, started before the process is stopped.

    carry.py take CRIU DIRECTORY ADDRESS PORT WAY           on the destination; says `ready` when it waits for the source
    carry.py send CRIU DIRECTORY ADDRESS PORT WAY PID       on the source

WAY is `tcp` (dump, all images over TCP, restore) or `page-server` (the pages go to criu's page-server while it dumps, the
other images over TCP, restore). The page server listens on the next port.
"""

import os
import socket
import subprocess
import sys

PIECE = 1 << 20


def criu(program, directory, *words):
    done = subprocess.run([program, *words, "--images-dir", directory, "--log-file", f"{words[0]}.log"], cwd=directory,
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        sys.exit(f"criu {words[0]} failed: {last_error(os.path.join(directory, words[0] + '.log')) or done.stderr.strip()}")


def last_error(log):
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            errors = [line.strip() for line in file if "Error" in line]
    except OSError:
        return None
    return errors[-1] if errors else None


def cubic(connection):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")


def send(program, directory, address, port, way, pid):
    with socket.create_connection((address, port)) as connection:
        cubic(connection)
        server = ["--page-server", "--address", address, "--port", str(port + 1)] if way == "page-server" else []
        criu(program, directory, "dump", "--tree", pid, *server)
        for entry in os.scandir(directory):
            if not entry.name.endswith(".img"):
                continue
            size = entry.stat().st_size
            connection.sendall(f"{size} {entry.name}\n".encode())
            with open(entry.path, "rb") as file:
                sent = 0
                while sent < size:
                    sent += os.sendfile(connection.fileno(), file.fileno(), sent, size - sent)


def take(program, directory, address, port, way):
    server = None
    if way == "page-server":
        server = subprocess.Popen([program, "page-server", "--images-dir", directory, "--address", address, "--port",
                                   str(port + 1), "--log-file", "page-server.log"], cwd=directory,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    with socket.create_server((address, port)) as listener:
        cubic(listener)
        print("ready", flush=True)
        connection, _ = listener.accept()
    buffer = memoryview(bytearray(PIECE))
    with connection, connection.makefile("rb", buffering=PIECE) as stream:
        while header := stream.readline():
            size, name = header.decode().rstrip("\n").split(" ", 1)
            left = int(size)
            with open(os.path.join(directory, os.path.basename(name)), "wb") as file:
                while left:
                    got = stream.readinto(buffer[:min(left, PIECE)])
                    if not got:
                        sys.exit(f"the connection ended within {name}")
                    file.write(buffer[:got])
                    left -= got
    if not os.path.exists(os.path.join(directory, "inventory.img")):
        if server:
            server.terminate()
        sys.exit("no images came")
    if server and server.wait():
        sys.exit(f"criu page-server failed: {last_error(os.path.join(directory, 'page-server.log'))}")
    criu(program, directory, "restore", "--restore-detached")


if __name__ == "__main__":
    side, program, directory, address, port, way, *pid = sys.argv[1:]
    {"send": send, "take": take}[side](program, directory, address, int(port), way, *pid)
