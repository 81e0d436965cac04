/* Maps a packet socket's ring, memory that belongs to no file and cannot move: refused by name, and it runs on here. */
#include "subject.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	struct tpacket_req request = { .tp_block_size = PAGE, .tp_block_nr = 4, .tp_frame_size = PAGE, .tp_frame_nr = 4 };

	begin(argc, argv);
	/* Protocol 0: no packet comes, so the ring stays as it is. */
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 && errno == EPERM)
		skipped("a packet socket takes CAP_NET_RAW");
	NEED(fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &request, sizeof request) == 0);
	char *ring = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(ring != MAP_FAILED);
	close(fd);
	fill(ring, 4 * PAGE, 1);
	ready();
	await_check();
	expect_filled("the ring", ring, 4 * PAGE, 1);
	passed();
}
