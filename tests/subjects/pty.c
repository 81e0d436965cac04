/*
 * Pseudo terminals: numbers with holes, settings, window size, owner and mode of the name, packet mode, lock, exclusive mode, one whose slave
 * has been closed, one whose slave was never open; several descriptions of one slave; flags.
 */
#include "pty.h"

int main(int argc, char **argv)
{
	struct termios settings, now;
	struct winsize size = { 31, 77, 5, 6 }, size_now;
	struct stat status;
	int unused[12], one = 1, is = -1;
	char text[16];

	begin(argc, argv);
	for (int i = 0; i < 3; i++)
		unused[i] = master_of(0);
	int plain = master_of(O_NONBLOCK);
	for (int i = 3; i < 6; i++)
		unused[i] = master_of(0);
	int packets = master_of(0), locked = posix_openpt(O_RDWR | O_NOCTTY), exclusive = master_of(O_CLOEXEC), left = master_of(0), fresh = master_of(0);
	for (int i = 0; i < 6; i++)
		NEED(close(unused[i]) == 0);
	int slave = slave_of(plain, O_RDWR), writer = slave_of(plain, O_WRONLY | O_NONBLOCK | O_CLOEXEC), another = dup(slave);
	NEED(locked >= 0 && another >= 0 && tcgetattr(slave, &settings) == 0);
	settings.c_lflag &= ~(ECHO | ECHOE);
	settings.c_iflag |= IUTF8 | IXANY;
	settings.c_cc[VEOL] = ';';
	settings.c_cc[VINTR] = 'X';
	NEED(cfsetspeed(&settings, B9600) == 0 && tcsetattr(slave, TCSANOW, &settings) == 0 && tcgetattr(slave, &settings) == 0);
	NEED(ioctl(plain, TIOCSWINSZ, &size) == 0);
	NEED(chown(slave_name(number_of(plain)), 12, 34) == 0 && chmod(slave_name(number_of(plain)), 0640) == 0);
	int packet_slave = slave_of(packets, O_RDWR), exclusive_slave = slave_of(exclusive, O_RDWR);
	NEED(ioctl(packets, TIOCPKT, &one) == 0 && ioctl(exclusive_slave, TIOCEXCL) == 0);
	NEED(close(slave_of(left, O_RDWR)) == 0);
	int numbers[] = { number_of(plain), number_of(packets), number_of(locked), number_of(exclusive), number_of(left), number_of(fresh) };
	int masters[] = { plain, packets, locked, exclusive, left, fresh };
	ready();
	await_check();

	for (int i = 0; i < 6; i++)
		EXPECT_EQ("the number of a terminal", number_of(masters[i]), numbers[i]);
	EXPECT_OK(tcgetattr(another, &now));
	EXPECT(memcmp(&settings, &now, sizeof now) == 0, "the settings differ: %x %x %x %x, were %x %x %x %x", now.c_iflag, now.c_oflag, now.c_cflag,
	       now.c_lflag, settings.c_iflag, settings.c_oflag, settings.c_cflag, settings.c_lflag);
	EXPECT_OK(ioctl(slave, TIOCGWINSZ, &size_now));
	EXPECT(memcmp(&size, &size_now, sizeof size) == 0, "the size is %d x %d", size_now.ws_row, size_now.ws_col);
	EXPECT_EQ("flags of a master", fcntl(plain, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
	EXPECT_EQ("flags of a slave", fcntl(slave, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR);
	EXPECT_EQ("flags of another one", fcntl(writer, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_WRONLY | O_NONBLOCK);
	EXPECT_EQ("close-on-exec", fcntl(writer, F_GETFD), FD_CLOEXEC);
	EXPECT_EQ("close-on-exec", fcntl(exclusive, F_GETFD), FD_CLOEXEC);
	EXPECT_OK(fstat(slave, &status));
	EXPECT(status.st_uid == 12 && status.st_gid == 34 && (status.st_mode & 07777) == 0640, "user %d, group %d, mode %o", status.st_uid,
	       status.st_gid, status.st_mode);
	EXPECT(strcmp(ttyname(slave), slave_name(numbers[0])) == 0, "its name is %s", ttyname(slave));
	expect_through("to the master", writer, "out\n", plain, "out\r\n");
	expect_through("to the slave", plain, "a line\n", slave, "a line\n");
	expect_through("to the slave", plain, "its own end;", another, "its own end;");
	EXPECT(write(packet_slave, "x", 1) == 1 && read(packets, text, sizeof text) == 2, "write and read: %s", strerror(errno));
	EXPECT(text[0] == TIOCPKT_DATA && text[1] == 'x', "not in packets: %d %d", text[0], text[1]);
	EXPECT_OK(ioctl(locked, TIOCGPTLCK, &is));
	EXPECT_EQ("whether it is locked", is, 1);
	EXPECT_OK(ioctl(exclusive_slave, TIOCGEXCL, &is));
	EXPECT_EQ("whether it is exclusive", is, 1);
	EXPECT_OK(ioctl(exclusive, TIOCGEXCL, &is));
	EXPECT_EQ("whether its master is", is, 0);
	EXPECT(read(left, text, 1) == -1 && errno == EIO, "the one that was left: %s", strerror(errno));
	struct pollfd asked = { fresh, POLLIN, 0 };
	EXPECT_EQ("whether the one that was never open has been left", poll(&asked, 1, 0), 0);
	expect_through("of one that was opened now", slave_of(fresh, O_RDWR), "y", fresh, "y");
	/* Numbers between them are free. */
	int next = master_of(0);
	EXPECT(number_of(next) < numbers[0] || number_of(next) < numbers[1], "the next one is %d", number_of(next));
	passed();
}
