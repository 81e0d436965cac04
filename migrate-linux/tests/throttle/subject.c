// Threads that check themselves for ever and count in a mapping of the file argv[1]: word i is how far thread i is, word 16+i how
// often a call of it ended before it was done, as a signal would make it. Ends when anything else is wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1 << 20)
enum { SPIN, EPOLL, WRITE, READ, WAIT, ZERO, THREADS, SIGNALS, CHILDREN, SLEEP };

static volatile uint64_t *counts;
static int ends[2];
static volatile int handled;

static void cut_short(int who) { counts[16 + who]++; }

static void *spin(void *unused) {
    volatile double sum = 0;
    for (;; counts[SPIN]++) {
        double x = 1;
        for (int i = 0; i < 10000; i++) x = x * 1.0000001 + 0.5;
        if (sum != 0 && x != sum) _exit(10);
        sum = x;
    }
    return unused;
}

static void *epolls(void *unused) {
    int epoll = epoll_create1(0);
    struct epoll_event event;
    for (;; counts[EPOLL]++) {
        int got = epoll_wait(epoll, &event, 1, 2);
        if (got < 0 && errno == EINTR) cut_short(EPOLL);
        else if (got != 0) _exit(11);
    }
    return unused;
}

// A pipe holds 64 KiB: most of the time one of the two waits, and every write is in several parts.
static void *writes(void *unused) {
    char *block = malloc(MIB);
    for (uint64_t at = 0;; counts[WRITE]++) {
        for (int i = 0; i < MIB; i += 8) *(uint64_t *)(block + i) = at + i;
        for (ssize_t done = 0, got; done < MIB; done += got) {
            got = write(ends[1], block + done, MIB - done);
            if (got < 0) _exit(12);
            if (got < MIB - done) cut_short(WRITE);
        }
        at += MIB;
    }
    return unused;
}

static void *reads(void *unused) {
    char *block = malloc(MIB);
    size_t have = 0;
    for (uint64_t at = 0;; counts[READ]++) {
        ssize_t got = read(ends[0], block + have, MIB - have);
        if (got <= 0) _exit(13);
        have += got;
        size_t whole = have & ~7UL;
        for (size_t i = 0; i < whole; i += 8)
            if (*(uint64_t *)(block + i) != at + i) _exit(14);
        at += whole;
        memmove(block, block + whole, have - whole);
        have -= whole;
    }
    return unused;
}

static void *waits(void *unused) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    for (;; counts[WAIT]++) {
        struct timespec time = {0, 1000000};
        if (sigtimedwait(&set, NULL, &time) != -1) _exit(15);
        if (errno == EINTR) cut_short(WAIT);
        else if (errno != EAGAIN) _exit(16);
    }
    return unused;
}

// The kernel looks for signals after every page.
static void *zeros(void *unused) {
    int zero = open("/dev/zero", O_RDONLY);
    char *block = malloc(MIB);
    for (;; counts[ZERO]++) {
        ssize_t got = read(zero, block, MIB);
        if (got <= 0) _exit(17);
        if (got < MIB) cut_short(ZERO);
    }
    return unused;
}

static void *short_life(void *argument) {
    int epoll = epoll_create1(0);
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, 1) != 0) cut_short(THREADS);
    close(epoll);
    return argument;
}

static void *threads(void *unused) {
    for (;; counts[THREADS]++) {
        pthread_t thread;
        void *result;
        if (pthread_create(&thread, NULL, short_life, (void *)7) || pthread_join(thread, &result) || result != (void *)7)
            _exit(18);
    }
    return unused;
}

static void handler(int signal) { handled += signal == SIGUSR1; }

static void *signals(void *unused) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    for (int sent = 1;; sent++, counts[SIGNALS]++) {
        syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
        if (handled != sent) _exit(19);
        for (volatile int i = 0; i < 20000; i++) {}
    }
    return unused;
}

static void *children(void *unused) {
    for (;; counts[CHILDREN]++) {
        int status;
        pid_t child = fork();
        if (child == 0) _exit(7);
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7) _exit(20);
    }
    return unused;
}

static void *sleeps(void *unused) {
    for (;; counts[SLEEP]++) {
        struct timespec time = {0, 1500000};
        if (nanosleep(&time, NULL)) _exit(21);
    }
    return unused;
}

int main(int argc, char **argv) {
    void *(*all[])(void *) = {spin, epolls, writes, reads, waits, zeros, threads, signals, children, sleeps};
    int fd = open(argv[argc - 1], O_RDWR | O_CREAT, 0600);
    struct sigaction action = {.sa_handler = handler};
    sigset_t set;
    sigfillset(&set);
    if (fd < 0 || ftruncate(fd, 4096) || pipe(ends) || sigaction(SIGUSR1, &action, NULL)) return 2;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (counts == MAP_FAILED || pthread_sigmask(SIG_SETMASK, &set, NULL)) return 2;
    for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, all[i], NULL)) return 3;
    }
    for (;;) pause();
}
