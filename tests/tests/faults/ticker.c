// Appends 1, 2, 3, ... to the file argv[1], a line each 5 ms, and checks itself meanwhile: a line twice means that two copies of it ran,
// a line missing that some of its work was lost. argv[2] only tells it from others. Exits when anything is wrong.
// It holds a record lock on that file. When there is a file argv[1].seccomp it no longer allows itself calls that it does not need;
// when there is argv[1].pipe it makes a pipe whose other end is held by a process that is not its child; when there is argv[1].memory
// it shares memory with one. argv[1].advice and argv[1].seal are about an area of its memory: MADV_DONTFORK, mseal.
// It has a pair of unix sockets; when there is argv[1].hang_up it closes one of them, and the other comes to its end.
// When there is argv[1].first its first thread ends, and another one does the work from there on.
// When there is argv[1].mapping it maps the file argv[1].content. It notes in argv[1].signals each SIGUSR2 and SIGRTMIN+3 that it gets, with
// the value that came with it. From argv[1].sysv on it has System V semaphores and a message queue, and uses them.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int out;
static int pair[2], hung_up;
static char *own_name, *own_file;
static void *area;
enum { AREA = 3 * 4096 };
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

static void *poll_again(void *unused) {
    int ends[2];
    if (pipe(ends)) wrong("pipe");
    for (;; polls++) {
        struct pollfd poll_in = {ends[0], POLLIN, 0};
        if (poll(&poll_in, 1, 3) != 0) wrong("poll");
    }
    return unused;
}

// Any of those that the move of a process may have it make, and it itself does not.
static void confine(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 2, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program))
        wrong("seccomp");
}

static void share_a_pipe(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) wrong("pipe");
    pid_t child = fork();
    if (!child) {
        // Its child ends when the pipe's last writing end is closed.
        if (!fork()) {
            dup2(ends[0], 0);
            execl("/bin/cat", "cat", NULL);
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child) wrong("fork");
    close(ends[0]);
}

static void share_memory(void) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) wrong("pipe");
    char *shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) wrong("mmap");
    pid_t child = fork();
    if (!child) {
        if (!fork()) {
            // Under another name than the copies that are counted. It ends with the process that has the pipe's other end.
            char byte;
            memset(own_name, 'x', strlen(own_name));
            dup2(ends[0], 0);
            close_range(1, ~0u, 0);
            while (read(0, &byte, 1) > 0) {}
        }
        _exit(0);
    }
    if (child < 0 || waitpid(child, NULL, 0) != child) wrong("fork");
    close(ends[0]);
}

static void advise(void) {
    if (madvise(area, AREA, MADV_DONTFORK)) wrong("madvise");
}

static void seal(void) {
    const long SYS_MSEAL = 462;
    if (syscall(SYS_MSEAL, area, AREA, 0)) wrong("mseal");
}

static void hang_up(void) {
    if (close(pair[1])) wrong("close");
    hung_up = 1;
}

static void map_content(void) {
    char path[4096];
    snprintf(path, sizeof path, "%s.content", own_file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED || close(fd)) wrong("map");
}

static int set = -1, queue = -1;

static int count(int semaphore, int change, int flags) {
    struct sembuf operation = {semaphore, change, flags | IPC_NOWAIT};
    return semop(set, &operation, 1);
}

static void make_sysv(void) {
    struct { long type; char text[8]; } kept = {5, "kept"};
    set = semget(IPC_PRIVATE, 2, 0600), queue = msgget(IPC_PRIVATE, 0600);
    if (count(0, 3, 0) || count(0, -1, SEM_UNDO) || msgsnd(queue, &kept, sizeof kept.text, 0)) wrong("semaphores, messages");
}

static void use_sysv(void) {
    struct { long type; char text[8]; } passed = {7, "passed"};
    struct msqid_ds told;
    if (count(1, 1, 0) || count(1, -1, 0) || semctl(set, 1, GETVAL) || semctl(set, 0, GETVAL) != 2) wrong("semaphores");
    if (msgsnd(queue, &passed, 7, 0) || msgrcv(queue, &passed, 8, 7, IPC_NOWAIT) != 7) wrong("messages");
    if (msgctl(queue, IPC_STAT, &told) || told.msg_qnum != 1) wrong("the message that is kept");
}

static int notes;
static volatile sig_atomic_t noted;

static void note(int signal, siginfo_t *info, void *context) {
    char line[64];
    (void)context;
    int length = snprintf(line, sizeof line, "%d %d %d\n", signal, info->si_code == SI_QUEUE, info->si_value.sival_int);
    if (write(notes, line, length) != length) wrong("note");
    noted = 1;
}

// In the first thread alone, which does not mind being interrupted.
static void note_signals(sigset_t *set) {
    char path[4096];
    struct sigaction action = {.sa_sigaction = note, .sa_flags = SA_SIGINFO};
    snprintf(path, sizeof path, "%s.signals", own_file);
    if ((notes = open(path, O_WRONLY | O_APPEND | O_CREAT, 0644)) < 0) wrong("open");
    sigemptyset(set);
    sigaddset(set, SIGUSR2);
    sigaddset(set, SIGRTMIN + 3);
    action.sa_mask = *set;
    if (sigaction(SIGUSR2, &action, 0) || sigaction(SIGRTMIN + 3, &action, 0) || sigprocmask(SIG_BLOCK, set, 0)) wrong("signals");
}

static void when_told(const char *file, const char *what, void (*then)(void)) {
    char path[4096];
    snprintf(path, sizeof path, "%s.%s", file, what);
    if (access(path, F_OK)) return;
    then();
    if (unlink(path)) wrong("unlink");
}

static void *work(void *);

// Another thread goes on once the first one has ended.
static void *go_on(void *unused) {
    char status[4096] = "", path[4096];
    while (!strstr(status, "State:\tZ")) {
        int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
        if (fd < 0 || read(fd, status, sizeof status - 1) <= 0 || close(fd)) wrong("status");
        usleep(1000);
    }
    snprintf(path, sizeof path, "%s.first", own_file);
    if (unlink(path)) wrong("unlink");
    return work(unused);
}

static void end_first(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, go_on, 0)) wrong("thread");
    pthread_exit(0);
}

static uint64_t n = 1;

static void *work(void *unused) {
    pid_t pid = getpid();
    for (;; n++) {
        char line[32];
        int length = snprintf(line, sizeof line, "%llu\n", (unsigned long long)n);
        if (write(out, line, length) != length) wrong("write");
        struct timespec pause = {0, 5000000};
        if (nanosleep(&pause, 0) && !(errno == EINTR && noted)) wrong("nanosleep");
        noted = 0;
        for (uint64_t i = n % 64; i < 128 * 1024; i += 64)
            if (memory[i] != i * 0x9e3779b97f4a7c15) wrong("memory");
        if (getpid() != pid) wrong("pid");
        when_told(own_file, "seccomp", confine);
        when_told(own_file, "pipe", share_a_pipe);
        when_told(own_file, "memory", share_memory);
        when_told(own_file, "advice", advise);
        when_told(own_file, "seal", seal);
        when_told(own_file, "mapping", map_content);
        when_told(own_file, "hang_up", hang_up);
        when_told(own_file, "sysv", make_sysv);
        if (set >= 0) use_sysv();
        // While it is copied, the agent has that socket too.
        if (hung_up && recv(pair[0], line, 1, 0) && (errno != EAGAIN || ++hung_up > 1000)) wrong("end of a socket");
        if (syscall(SYS_gettid) != pid) continue;
        n++; // the other one begins with the next line
        when_told(own_file, "first", end_first);
        n--;
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc != 3 || (out = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0644)) < 0) return 2;
    pthread_t thread;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    if (fcntl(out, F_SETLK, &lock)) wrong("lock");
    sigset_t noted_ones;
    own_file = argv[1];
    note_signals(&noted_ones);
    if (pthread_create(&thread, 0, spin, 0) || pthread_create(&thread, 0, poll_again, 0)) return 2;
    for (uint64_t i = 0; i < 128 * 1024; i++) memory[i] = i * 0x9e3779b97f4a7c15;
    own_name = argv[0];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair)) wrong("socketpair");
    if (sigprocmask(SIG_UNBLOCK, &noted_ones, 0)) wrong("signals");
    // Between two that nothing else can be a part of.
    char *around = mmap(0, AREA + 2 * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (around == MAP_FAILED || mprotect(area = around + 4096, AREA, PROT_READ | PROT_WRITE)) wrong("mmap");
    memset(area, 1, AREA);
    work(0);
}
