/*
 * Holds one thing that cannot be moved, and ticks.
 *
 * usage: unsupported DIRECTORY packet-socket | mapping
 */
#include "../subjects/subject.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

/* A packet socket's ring: shared memory that belongs to no file. */
static void map_ring(int fd)
{
	struct tpacket_req request = { .tp_block_size = PAGE, .tp_block_nr = 4, .tp_frame_size = PAGE, .tp_frame_nr = 4 };

	NEED(setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
	NEED(mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
	close(fd);
}

int main(int argc, char **argv)
{
	char text[32];

	begin(argc, argv);
	NEED(argc > 2);
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	NEED(fd >= 0);
	if (strcmp(argv[2], "mapping") == 0)
		map_ring(fd);
	else if (dup2(fd, 7) == 7)
		close(fd);
	ready();
	for (int i = 0; !check_wanted(); i++) {
		snprintf(text, sizeof text, "%d\n", i);
		write_whole("tick", text);
		pause_ms(1);
	}
	passed();
}
