/* What scripts/bench moves: one program, one mode a workload.
 *
 *   workload LOG tiny
 *   workload LOG memory MIB                       memory filled, left alone
 *   workload LOG shared MIB                       the same of shared memory
 *   workload LOG rewrite MIB PAGES                PAGES random pages of it rewritten, then a sleep of 1 ms, and so on
 *   workload LOG hot MIB HOT_MIB                  HOT_MIB besides rewritten again and again, without a pause
 *   workload LOG threads N                        half of them wait for a futex, half sleep 100 ms at a time
 *   workload LOG files N DIRECTORY                N files open there, each at an offset of its own
 *   workload LOG timers N                         N timers by descriptor: some periodic, some due in an hour, some not set
 *   workload LOG epolls N                         N epolls of 100 eventfds each
 *   workload LOG sockets N                        N unix sockets in pairs, every tenth pair with something in its queues
 *   workload LOG udp N                            N UDP sockets, every other one connected to the one before it, some with a datagram
 *   workload LOG mappings N                       N mappings of one page each
 *
 * Each millisecond the first thread, and with `threads` the last one too, notes in LOG, a shared mapping of the file, what
 * CLOCK_REALTIME says, on which host it is, and how much work has been done. CLOCK_MONOTONIC may be another one after a
 * move (criu restores into a time namespace of its own), and would hide it.
 *
 * `stop` in LOG, set by whoever measures, ends it: it looks whether all that it held is still right, and says so there. It
 * also ends by itself after ten minutes. LOG is read by ticks.py, which knows its layout. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, WORDS = PAGE / 8, TICKS = 1 << 17, LOGS = 2 };
#define MIB ((size_t)1 << 20)
#define LIFETIME_NS 600000000000ull

struct tick {
    uint64_t realtime_ns, work;
    char host[16];
};
struct head {
    uint64_t magic, pid, count[LOGS];
    _Atomic uint32_t ready, stop, verdict; /* verdict: 1 right, 2 wrong */
    char why[256];
};
struct log {
    union {
        struct head head;
        char page[PAGE];
    };
    struct tick ticks[LOGS][TICKS];
};

static struct log *shared;
static _Atomic uint64_t work;
static _Atomic uint32_t quit; /* also what the waiting threads wait for */
static _Atomic uint32_t ended;
static uint64_t started_ns;

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void wrong(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void wrong(const char *format, ...) {
    char text[sizeof shared->head.why];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "workload: %s\n", text);
    if (shared) {
        memcpy(shared->head.why, text, sizeof text);
        shared->head.verdict = 2;
    }
    exit(1);
}

static void pause_for(long us) {
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    if (nanosleep(&t, NULL)) wrong("nanosleep was interrupted: %s", strerror(errno));
}

static void tick(int log) {
    uint64_t n = shared->head.count[log];
    struct tick *t = &shared->ticks[log][n % TICKS];
    struct utsname before, name;
    uname(&name);
    do { /* moved in between, it would not be known on which host it has looked at the clock */
        before = name;
        t->realtime_ns = now();
        uname(&name);
    } while (strcmp(before.nodename, name.nodename));
    t->work = work;
    memcpy(t->host, name.nodename, sizeof t->host);
    __atomic_store_n(&shared->head.count[log], n + 1, __ATOMIC_RELEASE);
}

static void *make(size_t size, int prot, int flags, int fd) {
    void *at = mmap(NULL, size, prot, flags, fd, 0);
    if (at == MAP_FAILED) wrong("cannot map %zu bytes: %s", size, strerror(errno));
    return at;
}
static void *memory(size_t size) { return make(size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

/* No page is like another, nor like itself in another generation; none compresses well. */
static uint64_t word(uint64_t seed, size_t i) { return (seed ^ i) * 0x9e3779b97f4a7c15ull ^ seed >> 7; }
static uint64_t seed(uint64_t page, uint64_t generation) {
    uint64_t s = (page << 32 | generation) + 0x632be59bd9b4e019ull;
    s = (s ^ s >> 30) * 0xbf58476d1ce4e5b9ull;
    return s ^ s >> 27;
}
static void write_page(uint64_t *page, uint64_t number, uint64_t generation) {
    uint64_t s = seed(number, generation);
    for (size_t i = 1; i < WORDS; i++) page[i] = word(s, i);
    page[0] = generation;
}
static void check_page(const uint64_t *page, uint64_t number) {
    uint64_t s = seed(number, page[0]), difference = 0;
    for (size_t i = 1; i < WORDS; i++) difference |= page[i] ^ word(s, i);
    if (difference || !page[0]) wrong("page %lu is not what was last written to it", (unsigned long)number);
}

struct area {
    uint64_t *base;
    size_t pages, batch;
};
static struct area fill(void *base, size_t mib) {
    struct area a = {base, mib * MIB / PAGE, 0};
    for (size_t i = 0; i < a.pages; i++) write_page(a.base + i * WORDS, i, 1);
    return a;
}
static struct area filled(size_t mib) { return fill(memory(mib * MIB), mib); }
static void check_area(const struct area *a) {
    for (size_t i = 0; i < a->pages; i++) check_page(a->base + i * WORDS, i);
}

/* Not paced by a clock: what holds it up lowers its rate. */
static void *rewrite(void *argument) {
    struct area *a = argument;
    uint64_t random = 88172645463325252ull;
    while (!quit) {
        for (size_t i = 0; i < a->batch; i++) {
            random ^= random << 13, random ^= random >> 7, random ^= random << 17;
            size_t n = random % a->pages;
            write_page(a->base + n * WORDS, n, a->base[n * WORDS] + 1);
            work++;
        }
        pause_for(1000);
    }
    return NULL;
}
static void *rewrite_all(void *argument) {
    struct area *a = argument;
    for (uint64_t generation = 2; !quit; generation++)
        for (size_t n = 0; n < a->pages && !quit; n++, work++) write_page(a->base + n * WORDS, n, generation);
    return NULL;
}

static void *tick_on(void *unused) {
    (void)unused;
    for (; !quit; pause_for(1000)) tick(1);
    ended++;
    return NULL;
}
static void *wait_on(void *unused) {
    (void)unused;
    while (!quit) syscall(SYS_futex, &quit, FUTEX_WAIT, 0, NULL, NULL, 0);
    ended++;
    return NULL;
}
static void *sleep_on(void *unused) {
    (void)unused;
    for (; !quit; pause_for(100000)) work++;
    ended++;
    return NULL;
}

static pthread_t start(void *(*body)(void *), void *argument) {
    pthread_t thread;
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 64 << 10);
    int error = pthread_create(&thread, &small, body, argument);
    if (error) wrong("cannot make a thread: %s", strerror(error));
    return thread;
}

/* Notes the time until it is told to stop. */
static void run(void) {
    shared->head.ready = 1;
    while (!shared->head.stop) {
        tick(0);
        if (now() - started_ns > LIFETIME_NS) wrong("nobody told it to stop in ten minutes");
        pause_for(1000);
    }
    quit = 1;
    syscall(SYS_futex, &quit, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

static void run_threads(uint32_t n) {
    pthread_t *threads = calloc(n, sizeof *threads);
    if (!threads) wrong("no memory for %u threads", n);
    for (uint32_t i = 1; i < n; i++) threads[i] = start(i + 1 == n ? tick_on : i % 2 ? wait_on : sleep_on, NULL);
    run();
    for (int tries = 0; ended + 1 < n && tries < 500; tries++) pause_for(10000);
    if (ended + 1 < n) wrong("%u of %u threads did not end", n - 1 - ended, n);
    for (uint32_t i = 1; i < n; i++) pthread_join(threads[i], NULL);
}

static void allow_descriptors(uint32_t n) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < n + 16) limit.rlim_cur = limit.rlim_max < n + 16 ? limit.rlim_max : n + 16;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static void run_sockets(uint32_t n) {
    const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
    int (*pairs)[2] = calloc(n / 2, sizeof *pairs);
    if (!pairs) wrong("no memory for %u sockets", n);
    allow_descriptors(n);
    for (uint32_t i = 0; i < n / 2; i++) {
        if (socketpair(AF_UNIX, types[i % 3] | SOCK_CLOEXEC, 0, pairs[i])) wrong("cannot make pair %u: %s", i, strerror(errno));
        if (i % 10 == 0 && send(pairs[i][0], &i, sizeof i, 0) != sizeof i) wrong("cannot fill pair %u: %s", i, strerror(errno));
    }
    run();
    for (uint32_t i = 0; i < n / 2; i++) {
        uint32_t got = 0;
        if (i % 10 && send(pairs[i][0], &i, sizeof i, MSG_DONTWAIT) != sizeof i) wrong("pair %u is not connected: %s", i, strerror(errno));
        if (recv(pairs[i][1], &got, sizeof got, MSG_DONTWAIT) != sizeof got || got != i) wrong("pair %u holds something else", i);
        if (recv(pairs[i][1], &got, sizeof got, MSG_DONTWAIT) >= 0) wrong("pair %u holds more", i);
    }
}

static struct sockaddr_in name_of(int fd, int (*ask)(int, struct sockaddr *, socklen_t *)) {
    struct sockaddr_in name = {0};
    socklen_t length = sizeof name;
    if (ask(fd, (struct sockaddr *)&name, &length)) wrong("no name of socket %d: %s", fd, strerror(errno));
    return name;
}

static int same_name(struct sockaddr_in one, struct sockaddr_in other) {
    return one.sin_addr.s_addr == other.sin_addr.s_addr && one.sin_port == other.sin_port;
}

static void run_udp(uint32_t n) {
    allow_descriptors(n);
    int *fds = calloc(n, sizeof *fds);
    struct sockaddr_in *names = calloc(n, sizeof *names);
    if (!fds || !names) wrong("no memory for %u sockets", n);
    for (uint32_t i = 0; i < n; i++) {
        struct sockaddr_in any_port = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        fds[i] = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fds[i] < 0 || bind(fds[i], (struct sockaddr *)&any_port, sizeof any_port)) wrong("cannot make socket %u: %s", i, strerror(errno));
        names[i] = name_of(fds[i], getsockname);
        if (i % 2 && connect(fds[i], (struct sockaddr *)&names[i - 1], sizeof names[0])) wrong("cannot connect socket %u: %s", i, strerror(errno));
        if (i % 20 == 1 && send(fds[i], &i, sizeof i, 0) != sizeof i) wrong("cannot send by socket %u: %s", i, strerror(errno));
    }
    run();
    for (uint32_t i = 0; i < n; i++) {
        uint32_t got = 0;
        struct sockaddr_in from = {0};
        socklen_t length = sizeof from;
        if (!same_name(name_of(fds[i], getsockname), names[i])) wrong("socket %u has another address", i);
        if (i % 2 == 0) continue;
        if (!same_name(name_of(fds[i], getpeername), names[i - 1])) wrong("socket %u is connected to something else", i);
        if (i % 20 != 1 && send(fds[i], &i, sizeof i, 0) != sizeof i) wrong("cannot send by socket %u: %s", i, strerror(errno));
        if (recvfrom(fds[i - 1], &got, sizeof got, MSG_DONTWAIT, (struct sockaddr *)&from, &length) != sizeof got || got != i || !same_name(from, names[i]))
            wrong("socket %u does not get what %u has sent", i - 1, i);
    }
}

static void run_files(uint32_t n, const char *directory) {
    allow_descriptors(n);
    const int ways[] = {O_RDWR, O_RDONLY, O_WRONLY | O_APPEND};
    int *fds = calloc(n, sizeof *fds);
    if (!fds) wrong("no memory for %u files", n);
    for (uint32_t i = 0; i < n; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%u", directory, i);
        int made = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        if (made < 0 || write(made, path, 64) != 64 || close(made)) wrong("cannot write %s: %s", path, strerror(errno));
        fds[i] = open(path, ways[i % 3] | O_CLOEXEC);
        if (fds[i] < 0 || lseek(fds[i], i + 1, SEEK_SET) < 0) wrong("cannot open %s: %s", path, strerror(errno));
    }
    run();
    for (uint32_t i = 0; i < n; i++)
        if (lseek(fds[i], 0, SEEK_CUR) != (off_t)i + 1 || (fcntl(fds[i], F_GETFL) & (O_ACCMODE | O_APPEND)) != ways[i % 3])
            wrong("file %u is not open as it was", i);
}

static void run_timers(uint32_t n) {
    allow_descriptors(n);
    int *fds = calloc(n, sizeof *fds);
    if (!fds) wrong("no memory for %u timers", n);
    for (uint32_t i = 0; i < n; i++) {
        struct itimerspec hour = {.it_value = {3600, i}}, often = {{0, 10000000}, {0, 10000000}};
        fds[i] = timerfd_create(i % 2 ? CLOCK_MONOTONIC : CLOCK_REALTIME, TFD_CLOEXEC);
        if (fds[i] < 0) wrong("cannot make timer %u: %s", i, strerror(errno));
        if (i % 3 && timerfd_settime(fds[i], 0, i % 3 == 1 ? &hour : &often, NULL)) wrong("cannot set timer %u", i);
    }
    run();
    for (uint32_t i = 0; i < n; i++) {
        struct itimerspec is;
        uint64_t expired = 0;
        if (timerfd_gettime(fds[i], &is)) wrong("timer %u: %s", i, strerror(errno));
        int set = is.it_value.tv_sec || is.it_value.tv_nsec;
        if (i % 3 == 2) {
            struct pollfd asked = {fds[i], POLLIN, 0};
            if (is.it_interval.tv_nsec != 10000000 || poll(&asked, 1, 1000) != 1 || read(fds[i], &expired, 8) != 8)
                wrong("timer %u does not go on", i);
        } else if (set != (i % 3 == 1) || is.it_value.tv_sec > 3600) wrong("timer %u is not as it was", i);
    }
}

static void run_epolls(uint32_t n) {
    enum { EACH = 100 };
    allow_descriptors(n + EACH);
    int *epolls = calloc(n, sizeof *epolls), events[EACH];
    if (!epolls) wrong("no memory for %u epolls", n);
    for (uint32_t i = 0; i < EACH; i++)
        if ((events[i] = eventfd(0, EFD_CLOEXEC)) < 0) wrong("cannot make eventfd %u: %s", i, strerror(errno));
    for (uint32_t i = 0; i < n; i++) {
        if ((epolls[i] = epoll_create1(EPOLL_CLOEXEC)) < 0) wrong("cannot make epoll %u: %s", i, strerror(errno));
        for (uint32_t k = 0; k < EACH; k++) {
            struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)i << 32 | k};
            if (epoll_ctl(epolls[i], EPOLL_CTL_ADD, events[k], &event)) wrong("epoll %u: %s", i, strerror(errno));
        }
    }
    run();
    for (uint32_t k = 0; k < EACH; k++) {
        uint64_t one = 1;
        if (write(events[k], &one, 8) != 8) wrong("eventfd %u: %s", k, strerror(errno));
        for (uint32_t i = 0; i < n; i++) {
            struct epoll_event event;
            if (epoll_wait(epolls[i], &event, 1, 0) != 1 || event.data.u64 != ((uint64_t)i << 32 | k))
                wrong("epoll %u does not tell of eventfd %u", i, k);
        }
        if (read(events[k], &one, 8) != 8) wrong("eventfd %u: %s", k, strerror(errno));
    }
}

static void run_mappings(uint32_t n) {
    uint64_t **at = calloc(n, sizeof *at);
    if (!at) wrong("no memory for %u mappings", n);
    /* Neighbours differ, else they would be one mapping. */
    char *all = make((size_t)n * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    for (uint32_t i = 0; i < n; i++) {
        at[i] = mmap(all + (size_t)i * PAGE, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
        if (at[i] == MAP_FAILED) wrong("cannot map page %u: %s", i, strerror(errno));
        write_page(at[i], i, 1);
        if (i % 2 && mprotect(at[i], PAGE, PROT_READ)) wrong("cannot protect page %u: %s", i, strerror(errno));
    }
    run();
    for (uint32_t i = 0; i < n; i++) check_page(at[i], i);
}

int main(int argc, char **argv) {
    if (argc < 3) return fprintf(stderr, "usage: see the head of workload.c\n"), 2;
    int fd = open(argv[1], O_RDWR | O_CLOEXEC);
    if (fd < 0 || ftruncate(fd, sizeof *shared)) return perror(argv[1]), 1;
    shared = make(sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd);
    close(fd);
    memset(shared, 0, sizeof *shared); /* so that no tick waits for a page */
    shared->head.magic = sizeof *shared;
    shared->head.pid = (uint64_t)getpid();
    started_ns = now();

    const char *mode = argv[2];
    size_t n = argc > 3 ? strtoul(argv[3], NULL, 10) : 0, more = argc > 4 ? strtoul(argv[4], NULL, 10) : 0;
    if (!strcmp(mode, "tiny")) run();
    else if (!strcmp(mode, "memory") || !strcmp(mode, "shared")) {
        int private = !strcmp(mode, "memory");
        struct area a = private ? filled(n) : fill(make(n * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1), n);
        run();
        check_area(&a);
    } else if (!strcmp(mode, "rewrite") || !strcmp(mode, "hot")) {
        struct area a = filled(n), hot = {0};
        pthread_t thread;
        if (!strcmp(mode, "hot")) {
            hot = filled(more);
            thread = start(rewrite_all, &hot);
        } else {
            a.batch = more;
            thread = start(rewrite, &a);
        }
        run();
        pthread_join(thread, NULL);
        check_area(&a);
        check_area(&hot);
    } else if (!strcmp(mode, "threads")) run_threads((uint32_t)n);
    else if (!strcmp(mode, "files") && argc > 4) run_files((uint32_t)n, argv[4]);
    else if (!strcmp(mode, "timers")) run_timers((uint32_t)n);
    else if (!strcmp(mode, "epolls")) run_epolls((uint32_t)n);
    else if (!strcmp(mode, "sockets")) run_sockets((uint32_t)n);
    else if (!strcmp(mode, "udp")) run_udp((uint32_t)n);
    else if (!strcmp(mode, "mappings")) run_mappings((uint32_t)n);
    else return fprintf(stderr, "workload: no mode %s\n", mode), 2;
    shared->head.verdict = 1;
    return 0;
}
