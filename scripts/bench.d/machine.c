/* What scripts/bench asks of the machine itself.
 *
 *   machine warm BYTES        touches that much memory and frees it: in a virtual machine the first touch of memory that its
 *                             host has not given it yet takes several times as long, and would be measured instead
 *   machine floor BYTES HOW   moves BYTES of one process into another the plainest way, and prints the seconds: read with
 *                             process_vm_readv in 1 MiB pieces, sent through loopback TCP over 2 connections, placed with
 *                             process_vm_writev. HOW the memory there is: `fresh` (new pages) or `populated` (there already) */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { STREAMS = 2, PIECE = 1 << 20 };

static void must(int good, const char *what) {
    if (good) return;
    fprintf(stderr, "machine: %s: %s\n", what, strerror(errno));
    exit(1);
}

static char *memory(size_t size) {
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(at != MAP_FAILED, "mmap");
    return at;
}

struct stream {
    int fd;
    pid_t pid; /* whose memory is read or written */
    char *at;  /* where it is over there */
    size_t bytes;
};

static void *send_all(void *argument) {
    struct stream *s = argument;
    char *buffer = memory(PIECE);
    for (size_t done = 0; done < s->bytes; done += PIECE) {
        struct iovec here = {buffer, PIECE}, there = {s->at + done, PIECE};
        must(process_vm_readv(s->pid, &here, 1, &there, 1, 0) == PIECE, "process_vm_readv");
        for (size_t sent = 0; sent < PIECE;) {
            ssize_t n = send(s->fd, buffer + sent, PIECE - sent, 0);
            must(n > 0, "send");
            sent += (size_t)n;
        }
    }
    return NULL;
}

static void *receive_all(void *argument) {
    struct stream *s = argument;
    char *buffer = memory(PIECE);
    for (size_t done = 0; done < s->bytes; done += PIECE) {
        for (size_t got = 0; got < PIECE;) {
            ssize_t n = recv(s->fd, buffer + got, PIECE - got, 0);
            must(n > 0, "recv");
            got += (size_t)n;
        }
        struct iovec here = {buffer, PIECE}, there = {s->at + done, PIECE};
        must(process_vm_writev(s->pid, &here, 1, &there, 1, 0) == PIECE, "process_vm_writev");
    }
    return NULL;
}

static void run(void *(*body)(void *), struct stream *streams) {
    pthread_t threads[STREAMS];
    for (int i = 0; i < STREAMS; i++) must(!pthread_create(&threads[i], NULL, body, &streams[i]), "pthread_create");
    for (int i = 0; i < STREAMS; i++) pthread_join(threads[i], NULL);
}

/* A child that only holds memory, at the address that the parent has reserved. `fill`: 'w' writes it, 'p' only populates. */
static pid_t holder(char *at, size_t bytes, char fill) {
    int ready[2];
    must(!pipe(ready), "pipe");
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid) {
        char byte;
        close(ready[1]);
        must(read(ready[0], &byte, 1) == 1, "a child did not get its memory");
        close(ready[0]);
        return pid;
    }
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (fill == 'w')
        for (size_t i = 0; i < bytes; i += 8) *(uint64_t *)(at + i) = (i + 1) * 0x9e3779b97f4a7c15ull;
    if (fill == 'p')
        for (size_t i = 0; i < bytes; i += 4096) at[i] = 1;
    must(write(ready[1], "r", 1) == 1, "write");
    for (;;) pause();
}

static void use_cubic(int fd) { setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5); }

static void measure_floor(size_t bytes, const char *how) {
    bytes = (bytes + STREAMS * PIECE - 1) / (STREAMS * PIECE) * (STREAMS * PIECE);
    char *source = memory(bytes);
    char *destination = memory(bytes);
    madvise(source, bytes, MADV_NOHUGEPAGE);
    madvise(destination, bytes, MADV_NOHUGEPAGE);
    pid_t from = holder(source, bytes, 'w');
    pid_t to = holder(destination, bytes, !strcmp(how, "populated") ? 'p' : 0);

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    must(listener >= 0 && !bind(listener, (void *)&address, length) && !listen(listener, STREAMS), "listen");
    must(!getsockname(listener, (void *)&address, &length), "getsockname");
    struct stream out[STREAMS], in[STREAMS];
    for (int i = 0; i < STREAMS; i++) {
        size_t part = bytes / STREAMS;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        use_cubic(fd);
        must(!connect(fd, (void *)&address, length), "connect");
        out[i] = (struct stream){fd, from, source + (size_t)i * part, part};
        in[i] = (struct stream){accept(listener, NULL, NULL), to, destination + (size_t)i * part, part};
    }
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    pid_t receiver = fork();
    must(receiver >= 0, "fork");
    if (!receiver) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        run(receive_all, in);
        _exit(0);
    }
    run(send_all, out);
    int status;
    must(waitpid(receiver, &status, 0) == receiver && !status, "the receiver failed");
    clock_gettime(CLOCK_MONOTONIC, &end);

    uint64_t last[2];
    struct iovec here[2] = {{&last[0], 8}, {&last[1], 8}};
    struct iovec there[2] = {{source + bytes - 8, 8}, {destination + bytes - 8, 8}};
    must(process_vm_readv(from, &here[0], 1, &there[0], 1, 0) == 8, "process_vm_readv");
    must(process_vm_readv(to, &here[1], 1, &there[1], 1, 0) == 8, "process_vm_readv");
    must(last[0] == last[1], "what arrived is not what was sent");
    kill(from, SIGKILL), kill(to, SIGKILL);
    while (wait(NULL) > 0) {}
    printf("%.6f\n", (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9);
}

int main(int argc, char **argv) {
    size_t bytes = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    if (argc == 3 && !strcmp(argv[1], "warm")) {
        char *at = memory(bytes);
        for (size_t i = 0; i < bytes; i += 4096) at[i] = 1;
    } else if (argc == 4 && !strcmp(argv[1], "floor"))
        measure_floor(bytes, argv[3]);
    else
        return fprintf(stderr, "usage: machine warm BYTES | floor BYTES fresh|populated\n"), 2;
    return 0;
}
