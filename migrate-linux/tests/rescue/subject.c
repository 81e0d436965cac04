// Four threads that check themselves for ever and count in a mapping of the file argv[1]: registers, a sleep, a poll, a futex wait.
// None may ever see EINTR. Ends when anything is wrong.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t *counts;
static sigset_t mask;

static void check_mask(void) {
    sigset_t now;
    pthread_sigmask(SIG_SETMASK, NULL, &now);
    if (sigismember(&now, SIGUSR2) != 1 || sigismember(&now, SIGUSR1) != 0 || sigismember(&now, SIGTERM) != 0) _exit(10);
}

// Every general register holds a value over a loop of its own; the flags, the stack and the red zone too.
static void *spin(void *unused) {
    for (;; counts[0]++) {
        uint64_t bad = 0;
        __asm__ volatile(
            "push %%rbp\n"
            "mov $11, %%rbx\nmov $12, %%rcx\nmov $13, %%rdx\nmov $14, %%rsi\nmov $15, %%rdi\nmov $16, %%rbp\n"
            "mov $18, %%r8\nmov $19, %%r9\nmov $20, %%r10\nmov $21, %%r11\nmov $22, %%r12\nmov $23, %%r13\nmov $24, %%r14\n"
            "mov $20000, %%r15\n"
            "movq $77, -64(%%rsp)\n"
            "1: mov $25, %%rax\n"
            "cmp $11, %%rbx\njne 2f\ncmp $12, %%rcx\njne 2f\ncmp $13, %%rdx\njne 2f\ncmp $14, %%rsi\njne 2f\n"
            "cmp $15, %%rdi\njne 2f\ncmp $16, %%rbp\njne 2f\ncmp $18, %%r8\njne 2f\ncmp $19, %%r9\njne 2f\n"
            "cmp $20, %%r10\njne 2f\ncmp $21, %%r11\njne 2f\ncmp $22, %%r12\njne 2f\ncmp $23, %%r13\njne 2f\n"
            "cmp $24, %%r14\njne 2f\ncmp $25, %%rax\njne 2f\ncmpq $77, -64(%%rsp)\njne 2f\n"
            "dec %%r15\njnz 1b\n"
            "xor %%eax, %%eax\njmp 3f\n"
            "2: mov $1, %%eax\n"
            "3: pop %%rbp\n"
            : "=a"(bad)
            :
            : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
        if (bad) _exit(11);
        check_mask();
    }
    return unused;
}

static void *polls(void *unused) {
    int ends[2];
    if (pipe(ends)) _exit(2);
    for (;; counts[2]++) {
        struct pollfd in = {ends[0], POLLIN, 0};
        if (poll(&in, 1, 2) != 0) _exit(12);
        check_mask();
    }
    return unused;
}

static void *futexes(void *unused) {
    static int word;
    for (;; counts[3]++) {
        struct timespec patience = {0, 2000000};
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &patience, NULL, 0) != -1) _exit(13);
        check_mask();
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 2) return 2;
    int file = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (file < 0 || ftruncate(file, 4096)) return 2;
    counts = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (counts == MAP_FAILED) return 2;
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &mask, NULL);
    pthread_t thread;
    if (pthread_create(&thread, NULL, polls, NULL) || pthread_create(&thread, NULL, futexes, NULL)) return 2;
    // Which of them is the process's first thread matters: calls are injected into that one.
    if (argv[1][0] && getenv("SLEEPER_FIRST")) {
        if (pthread_create(&thread, NULL, spin, NULL)) return 2;
    } else {
        // the sleep is then in a thread of its own
        if (pthread_create(&thread, NULL, futexes, NULL)) return 2;
        counts[1] = 1;
        spin(NULL);
    }
    for (;; counts[1]++) {
        struct timespec pause = {0, 2000000};
        if (nanosleep(&pause, NULL)) _exit(14);
        check_mask();
    }
}
