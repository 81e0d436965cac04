/* Holds a packet socket with a ring, which cannot move, as descriptor 7: refused by name, and it runs on here. */
#include "subject.h"
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <sys/socket.h>

int main(int argc, char **argv)
{
	char before[64] = "", after[64] = "";
	struct tpacket_req ring = { 4096, 2, 2048, 4 };

	begin(argc, argv);
	int fd = socket(AF_PACKET, SOCK_RAW, htons(ETH_P_ALL));
	if (fd < 0 && errno == EPERM)
		skipped("a packet socket takes CAP_NET_RAW");
	NEED(fd >= 0 && dup2(fd, 7) == 7 && close(fd) == 0);
	NEED(setsockopt(7, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0);
	NEED(readlink("/proc/self/fd/7", before, sizeof before - 1) > 0);
	ready();
	await_check();
	EXPECT(readlink("/proc/self/fd/7", after, sizeof after - 1) > 0, "readlink: %s", strerror(errno));
	EXPECT(strcmp(before, after) == 0, "descriptor 7: expected %s, got %s", before, after);
	passed();
}
