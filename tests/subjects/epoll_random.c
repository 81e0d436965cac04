/*
 * A random graph: eventfds under changing numbers, epolls that watch them with any events, epolls that watch these. What each tells, when
 * one eventfd after the other becomes ready, is what was put into it.
 */
#include "epoll.h"
#include <sys/random.h>

#define EVENTS 14
#define LOWER 5
#define UPPER 3
#define FIRST 100
#define NUMBERS 40
#define ITEMS 1000

static uint64_t seed, chance;
/* The eventfd behind each number, and -1. */
static int at[NUMBERS];
static struct item { int alive, epoll, event, number; uint32_t events; } items[ITEMS];
static int item_count, lower[LOWER], upper[UPPER], watches[UPPER][LOWER];

#define FAIL(format, ...) failed("seed %llx: " format, (unsigned long long)seed, __VA_ARGS__)

static int number_of(int event)
{
	for (int n = 0; n < NUMBERS; n++)
		if (at[n] == event)
			return n;
	return -1;
}

/* One without a number is gone, and what watches it with it. */
static void changed(int event)
{
	if (event < 0 || number_of(event) >= 0)
		return;
	for (int i = 0; i < item_count; i++)
		if (items[i].event == event)
			items[i].alive = 0;
}

static struct item *find(int epoll, int event, int number)
{
	for (int i = 0; i < item_count; i++)
		if (items[i].alive && items[i].epoll == epoll && items[i].event == event && items[i].number == number)
			return &items[i];
	return NULL;
}

static void step(int *made)
{
	int n = (int)any(&chance, NUMBERS), m = (int)any(&chance, NUMBERS), epoll = (int)any(&chance, LOWER), old = at[n];
	uint32_t how[] = { 0, EPOLLET, EPOLLONESHOT, EPOLLONESHOT | EPOLLET, EPOLLEXCLUSIVE, EPOLLEXCLUSIVE | EPOLLET };

	switch (any(&chance, 8)) {
	case 0:
		if (*made == EVENTS)
			return;
		int fd = eventfd(0, 0);
		NEED(fd >= 0 && dup2(fd, FIRST + n) == FIRST + n && close(fd) == 0);
		at[n] = (*made)++;
		changed(old);
		return;
	case 1:
		if (at[m] < 0 || n == m)
			return;
		NEED(dup2(FIRST + m, FIRST + n) == FIRST + n);
		at[n] = at[m];
		changed(old);
		return;
	case 2:
		if (at[n] < 0)
			return;
		NEED(close(FIRST + n) == 0);
		at[n] = -1;
		changed(old);
		return;
	case 3:
		if (at[n] < 0 || !find(epoll, at[n], n))
			return;
		NEED(epoll_ctl(lower[epoll], EPOLL_CTL_DEL, FIRST + n, NULL) == 0);
		find(epoll, at[n], n)->alive = 0;
		return;
	default:
		if (at[n] < 0 || find(epoll, at[n], n) || item_count == ITEMS)
			return;
		uint32_t events = EPOLLIN | how[any(&chance, sizeof how / sizeof *how)];
		add(lower[epoll], FIRST + n, events, (uint64_t)item_count);
		items[item_count++] = (struct item){ 1, epoll, at[n], n, events };
	}
}

int main(int argc, char **argv)
{
	static struct epoll_event events[ITEMS];
	int made = 0;

	begin(argc, argv);
	NEED(getrandom(&seed, sizeof seed, 0) == sizeof seed && seed != 0);
	chance = seed;
	memset(at, -1, sizeof at);
	for (int i = 0; i < LOWER; i++)
		lower[i] = epoll_create1(0);
	for (int i = 0; i < UPPER; i++) {
		upper[i] = epoll_create1(0);
		for (int k = 0; k < LOWER; k++)
			if (any(&chance, 2)) {
				add(upper[i], lower[k], EPOLLIN, k);
				watches[i][k] = 1;
			}
	}
	for (int i = 0; i < 600; i++)
		step(&made);
	ready();
	await_check();

	for (int event = 0; event < EVENTS; event++) {
		int n = number_of(event), ready_[LOWER] = { 0 };
		if (n < 0)
			continue;
		count_up(FIRST + n);
		for (int i = 0; i < item_count; i++)
			if (items[i].alive && items[i].event == event)
				ready_[items[i].epoll] = 1;
		for (int i = 0; i < UPPER; i++) {
			int count = epoll_wait(upper[i], events, ITEMS, 0), expected = 0, got[LOWER] = { 0 };
			for (int k = 0; k < count; k++)
				got[events[k].data.u64] = 1;
			for (int k = 0; k < LOWER; k++) {
				expected += watches[i][k] && ready_[k];
				if (got[k] != (watches[i][k] && ready_[k]))
					FAIL("eventfd %d: the upper epoll %d tells of %d: %d", event, i, k, got[k]);
			}
			if (count != expected)
				FAIL("eventfd %d: the upper epoll %d tells %d instead of %d", event, i, count, expected);
		}
		for (int k = 0; k < LOWER; k++) {
			int count = epoll_wait(lower[k], events, ITEMS, 0), expected = 0;
			for (int i = 0; i < item_count; i++)
				expected += items[i].alive && items[i].event == event && items[i].epoll == k;
			if (count != expected)
				FAIL("eventfd %d: epoll %d tells %d instead of %d", event, k, count, expected);
			for (int i = 0; i < count; i++) {
				uint64_t data = events[i].data.u64;
				if (data >= (uint64_t)item_count || !items[data].alive || items[data].epoll != k || items[data].event != event ||
				    events[i].events != EPOLLIN)
					FAIL("eventfd %d: epoll %d tells %x of %llu", event, k, events[i].events, (unsigned long long)data);
			}
			/* Only levels are told again. */
			count = epoll_wait(lower[k], events, ITEMS, 0);
			for (int i = 0; i < item_count; i++)
				expected -= items[i].alive && items[i].event == event && items[i].epoll == k &&
					    (items[i].events & (EPOLLET | EPOLLONESHOT)) != 0;
			if (count != expected)
				FAIL("eventfd %d: epoll %d tells %d instead of %d again", event, k, count, expected);
		}
		empty(FIRST + n);
	}
	/* What can be taken away is what is there. */
	for (int i = 0; i < item_count; i++) {
		int there = items[i].alive && at[items[i].number] == items[i].event;
		if (there && epoll_ctl(lower[items[i].epoll], EPOLL_CTL_DEL, FIRST + items[i].number, NULL) != 0)
			FAIL("item %d (epoll %d, number %d): %s", i, items[i].epoll, items[i].number, strerror(errno));
	}
	passed();
}
