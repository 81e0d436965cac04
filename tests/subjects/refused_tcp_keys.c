/* Listens for signed connections alone, whose keys the kernel does not give out: refused by name. */
#include "inet.h"
#include <linux/tcp.h>

int main(int argc, char **argv)
{
	struct tcp_md5sig key = { .tcpm_keylen = 6, .tcpm_key = "secret" };
	address from = v4("127.0.0.9", 0), at = v4("127.0.0.1", 20321);

	begin(argc, argv);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	set_number(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	NEED(bind(fd, &at.any, size_of(&at)) == 0);
	memcpy(&key.tcpm_addr, &from, size_of(&from));
	if (setsockopt(fd, IPPROTO_TCP, TCP_MD5SIG, &key, sizeof key) != 0)
		skipped("this kernel has no TCP_MD5SIG");
	NEED(listen(fd, 3) == 0);
	ready();
	await_check();
	passed();
}
