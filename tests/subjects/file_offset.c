/* Regular files: offset, access mode, O_APPEND and other flags, a file that grows while the process moves. */
#include "subject.h"

static void expect_flags(const char *what, int fd, int before)
{
	EXPECT_EQ(what, fcntl(fd, F_GETFL), before);
}

int main(int argc, char **argv)
{
	char text[64] = "";

	begin(argc, argv);
	close(make_file("data", 4, 1));
	int reading = open(path_of("data"), O_RDONLY | O_NOATIME);
	int both = open(path_of("data"), O_RDWR | O_SYNC | O_NONBLOCK);
	int append = open(path_of("log"), O_CREAT | O_WRONLY | O_APPEND, 0600);
	int far = open(path_of("data"), O_RDONLY | O_LARGEFILE);
	NEED(reading >= 0 && both >= 0 && append >= 0 && far >= 0);
	int flags[] = { fcntl(reading, F_GETFL), fcntl(both, F_GETFL), fcntl(append, F_GETFL), fcntl(far, F_GETFL) };
	NEED(lseek(reading, 4104, SEEK_SET) == 4104 && lseek(both, 8192, SEEK_SET) == 8192);
	NEED(lseek(far, 1LL << 40, SEEK_SET) == 1LL << 40);
	ready();
	int lines = 0;
	for (; !check_wanted(); lines++, pause_ms(1))
		EXPECT(dprintf(append, "%07d\n", lines) == 8, "write: %s", strerror(errno));

	expect_flags("flags of the file that is read", reading, flags[0]);
	expect_flags("flags of the file that is read and written", both, flags[1]);
	expect_flags("flags of the file that is appended to", append, flags[2]);
	expect_flags("flags of the file far on", far, flags[3]);
	EXPECT_EQ("offset of the file that is read", lseek(reading, 0, SEEK_CUR), 4104);
	EXPECT_EQ("offset of the file that is read and written", lseek(both, 0, SEEK_CUR), 8192);
	EXPECT_EQ("offset beyond the end", lseek(far, 0, SEEK_CUR), 1LL << 40);
	uint64_t word = 0;
	EXPECT_EQ("length read", read(reading, &word, 8), 8);
	EXPECT_EQ("content read", word, pattern(2, 1));
	EXPECT(write(reading, &word, 8) == -1 && errno == EBADF, "a read-only descriptor can write");
	EXPECT_EQ("length written", write(both, "written", 7), 7);
	EXPECT_EQ("length read", pread(both, text, 7, 8192), 7);
	EXPECT(memcmp(text, "written", 7) == 0, "content written: %.7s", text);
	/* Appended to the end wherever the offset is. */
	EXPECT_EQ("lseek", lseek(append, 0, SEEK_SET), 0);
	EXPECT_EQ("length written", write(append, "last one", 8), 8);
	int check = open(path_of("log"), O_RDONLY);
	for (int i = 0; i < lines; i++) {
		EXPECT_EQ("length read of the log", read(check, text, 8), 8);
		EXPECT_EQ("line of the log", atoi(text), i);
	}
	EXPECT_EQ("length read of the log's last line", read(check, text, 64), 8);
	EXPECT(memcmp(text, "last one", 8) == 0, "the log's last line: %.8s", text);
	passed();
}
