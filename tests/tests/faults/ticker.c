// Appends 1, 2, 3, ... to the file argv[1], a line each 5 ms, and checks itself meanwhile: a line twice means that two copies of it ran,
// a line missing that some of its work was lost. argv[2] only tells it from others. Exits when anything is wrong.
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int out;
static uint64_t memory[128 * 1024]; // 1 MiB
static volatile uint64_t spins, polls;

static void wrong(const char *what) {
    dprintf(out, "WRONG %s, errno %d\n", what, errno);
    _exit(1);
}

static uint64_t mixed(uint64_t x) {
    for (int i = 0; i < 1000; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

// Registers, floating point ones included, hold its state.
static void *spin(void *unused) {
    uint64_t expected = mixed(88172645463325252ull);
    double sum_expected = 0, sum;
    for (int i = 1; i < 1000; i++) sum_expected += 1.0 / i;
    for (;; spins++) {
        if (mixed(88172645463325252ull) != expected) wrong("integers");
        sum = 0;
        for (int i = 1; i < 1000; i++) sum += 1.0 / i;
        if (sum != sum_expected) wrong("floating point");
    }
    return unused;
}

static void *wait(void *unused) {
    int ends[2];
    if (pipe(ends)) wrong("pipe");
    for (;; polls++) {
        struct pollfd poll_in = {ends[0], POLLIN, 0};
        if (poll(&poll_in, 1, 3) != 0) wrong("poll");
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 3 || (out = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644)) < 0) return 2;
    pthread_t thread;
    if (pthread_create(&thread, 0, spin, 0) || pthread_create(&thread, 0, wait, 0)) return 2;
    for (uint64_t i = 0; i < 128 * 1024; i++) memory[i] = i * 0x9e3779b97f4a7c15;
    pid_t pid = getpid();
    for (uint64_t n = 1;; n++) {
        char line[32];
        int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)n);
        if (write(out, line, length) != length) wrong("write");
        struct timespec pause = {0, 5000000};
        if (nanosleep(&pause, 0)) wrong("nanosleep");
        for (uint64_t i = n % 64; i < 128 * 1024; i += 64)
            if (memory[i] != i * 0x9e3779b97f4a7c15) wrong("memory");
        if (getpid() != pid) wrong("pid");
    }
}
