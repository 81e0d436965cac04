/* A UDP socket that holds back data and sends it all the time: each datagram comes once, and whole. */
#include "inet.h"

static char expected[30000], got[30001];

int main(int argc, char **argv)
{
	address at = v4("127.0.0.1", 20401), from = v4("127.0.0.1", 20402), kept = v4("127.0.0.1", 20403);
	uint64_t chance = 4711, sent = 0;

	begin(argc, argv);
	int receiver = bound_to(SOCK_DGRAM, 0, at), sender = bound_to(SOCK_DGRAM, 0, from), keeper = bound_to(SOCK_DGRAM, 0, kept);
	/* What is always held back, so that the move can tell in time that something is. */
	NEED(sendto(keeper, "kept", 4, MSG_MORE, &kept.any, size_of(&kept)) == 4);
	ready();
	while (!check_wanted()) {
		size_t size = sizeof sent + any(&chance, sizeof expected - sizeof sent);

		sent++;
		memcpy(expected, &sent, sizeof sent);
		fill(expected + sizeof sent, (size - sizeof sent) / 8 * 8, sent);
		for (size_t done = 0; done < size;) {
			size_t count = 1 + any(&chance, size);

			if (count > size - done)
				count = size - done;
			EXPECT(sendto(sender, expected + done, count, MSG_MORE, &at.any, size_of(&at)) == (ssize_t)count, "hold back: %s",
			       strerror(errno));
			done += count;
			if (any(&chance, 4) == 0)
				pause_ms(1);
		}
		expect_nothing("before it is sent", receiver);
		EXPECT(sendto(sender, "", 0, 0, &at.any, size_of(&at)) == 0, "send: %s", strerror(errno));
		await_input(receiver);
		EXPECT_EQ("length", recv(receiver, got, sizeof got, MSG_DONTWAIT), size);
		EXPECT(memcmp(got, expected, size) == 0, "datagram %llu has other bytes", (unsigned long long)sent);
		expect_nothing("behind it", receiver);
	}
	EXPECT(sendto(keeper, "!", 1, 0, &kept.any, size_of(&kept)) == 1, "send: %s", strerror(errno));
	expect_datagram("what was kept", keeper, "kept!", 5, kept);
	passed();
}
