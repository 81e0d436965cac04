/*
 * A process whose first thread has ended (pthread_exit), with others that work on memory, a file, a timer, futexes, and for each other.
 */
#include "first_ended.h"
#include "timer.h"

#define PAGES 64

static pthread_t first;
static int file, timer_of_first, ticking, pair[2], itself;
static uint64_t *memory;
static volatile int64_t counted, ticks, passed_on[2];
static volatile int signals, stop;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void note_signal(int signal)
{
	(void)signal;
	signals++;
}

static void note_tick(int signal)
{
	(void)signal;
	ticks++;
}

/* Writes memory, all of it with one number. */
static void *count(void *unused)
{
	(void)unused;
	while (!stop) {
		for (size_t i = 0; i < PAGES * PAGE / 8; i++)
			memory[i] = counted + 1;
		counted++;
		pause_ms(1);
	}
	return memory;
}

/* Appends to a file, whose offset only this thread moves. */
static void *append(void *unused)
{
	int64_t written = 0;

	(void)unused;
	while (!stop) {
		EXPECT(write(file, &written, sizeof written) == sizeof written, "write: %s", strerror(errno));
		written++;
		pause_ms(1);
	}
	EXPECT_EQ("the file's offset", lseek(file, 0, SEEK_CUR), written * 8);
	for (int64_t i = 0, got; i < written; i++)
		EXPECT(pread(file, &got, 8, i * 8) == 8 && got == i, "the file at %lld", (long long)i * 8);
	return (void *)written;
}

/* Two of these take turns. */
static void *take_turns(void *which)
{
	int own = (int)(uintptr_t)which;

	pthread_mutex_lock(&mutex);
	while (!stop) {
		while (!stop && passed_on[own] > passed_on[!own])
			pthread_cond_wait(&changed, &mutex);
		passed_on[own]++;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&mutex);
		pause_ms(1);
		pthread_mutex_lock(&mutex);
	}
	pthread_cond_broadcast(&changed);
	pthread_mutex_unlock(&mutex);
	return NULL;
}

static void *join(void *whom)
{
	void *result = NULL;

	EXPECT_EQ("pthread_join", pthread_join(*(pthread_t *)whom, &result), 0);
	return result;
}

static void go_on_for_a_while(volatile int64_t *number, const char *what)
{
	int64_t before = *number;

	for (int ms = 0; ms < 5000 && *number <= before + 2; ms++)
		pause_ms(1);
	EXPECT(*number > before + 2, "%s: it does not go on", what);
}

static void *last(void *unused)
{
	pthread_t threads[4], joining;
	struct f_owner_ex owner = { .type = F_OWNER_TID };
	void *result;

	(void)unused;
	await_end_of_first();
	NEED(pthread_setname_np(pthread_self(), "the last one") == 0);
	threads[0] = start_thread(count, NULL);
	threads[1] = start_thread(append, NULL);
	threads[2] = start_thread(take_turns, (void *)0);
	threads[3] = start_thread(take_turns, (void *)1);
	joining = start_thread(join, &threads[0]);
	owner.pid = first_tid;
	NEED(fcntl(pair[0], F_SETOWN, getpid()) == 0);
	NEED(fcntl(pair[1], F_SETOWN_EX, &owner) == 0);
	ready();
	await_check();

	expect_first_ended();
	go_on_for_a_while(&counted, "memory");
	go_on_for_a_while(&ticks, "the timer");
	go_on_for_a_while(&passed_on[0], "taking turns");
	EXPECT_EQ("F_GETOWN", fcntl(pair[0], F_GETOWN), getpid());
	EXPECT(fcntl(pair[1], F_GETOWN_EX, &owner) == 0 && owner.type == F_OWNER_TID && owner.pid == first_tid,
	       "F_GETOWN_EX: %d %d", owner.type, owner.pid);
	EXPECT_EQ("a pidfd of itself", syscall(SYS_pidfd_send_signal, itself, SIGUSR1, NULL, 0), 0);
	for (int ms = 0; ms < 5000 && signals == 0; ms++)
		pause_ms(1);
	EXPECT_EQ("signals", signals, 1);
	EXPECT(to_ns(get_timer(timer_of_first).it_value) > 0, "the first thread's timer is not set");
	stop = 1;
	EXPECT_EQ("pthread_join of the one that joins", pthread_join(joining, &result), 0);
	EXPECT(result == memory, "what was joined returned %p", result);
	for (size_t i = 0; i < PAGES * PAGE / 8; i++)
		EXPECT_EQ("memory", memory[i], counted);
	for (int i = 1; i < 4; i++)
		EXPECT_EQ("pthread_join", pthread_join(threads[i], NULL), 0);
	EXPECT_EQ("pthread_join of the first thread", pthread_join(first, NULL), 0);
	passed();
}

int main(int argc, char **argv)
{
	struct sigaction action = { .sa_handler = note_signal, .sa_flags = SA_RESTART };

	begin(argc, argv);
	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	action.sa_handler = note_tick;
	NEED(sigaction(SIGUSR2, &action, NULL) == 0);
	memory = map_anonymous(PAGES * PAGE);
	file = open(path_of("appended"), O_CREAT | O_RDWR | O_TRUNC | O_CLOEXEC, 0666);
	NEED(file >= 0 && pipe2(pair, O_CLOEXEC) == 0);
	itself = (int)syscall(SYS_pidfd_open, getpid(), 0);
	NEED(itself >= 0);
	first = pthread_self();
	start_thread(last, NULL);
	be_the_first();
	timer_of_first = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL | SIGEV_THREAD_ID, SIGRTMIN + 4, 7, first_tid);
	NEED(set_timer(timer_of_first, 0, 1000000000000, 0) == 0);
	ticking = make_timer(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR2, 8, 0);
	NEED(set_timer(ticking, 0, 5000000, 5000000) == 0);
	pthread_exit(NULL);
}
