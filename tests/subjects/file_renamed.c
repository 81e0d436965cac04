/* Files that were opened under another name than they have now: renamed, in a directory that was renamed, by a link of which one is left. */
#include "subject.h"

int main(int argc, char **argv)
{
	char from[PATH_MAX], text[16];

	begin(argc, argv);
	int renamed = make_file("before", 1, 1), linked = make_file("first", 1, 2);
	strcpy(from, path_of("before"));
	NEED(rename(from, path_of("after")) == 0);
	strcpy(from, path_of("first"));
	NEED(link(from, path_of("second")) == 0 && unlink(path_of("second")) == 0);
	NEED(mkdir(path_of("directory"), 0700) == 0);
	int inside = make_file("directory/file", 1, 3);
	strcpy(from, path_of("directory"));
	NEED(rename(from, path_of("moved away")) == 0);
	ready();
	await_check();
	EXPECT_EQ("written", pwrite(renamed, "renamed", 7, 0), 7);
	EXPECT_EQ("written", pwrite(linked, "linked", 6, 0), 6);
	EXPECT_EQ("written", pwrite(inside, "inside", 6, 0), 6);
	EXPECT(read_whole(path_of("after"), text, 7) == 7 && memcmp(text, "renamed", 7) == 0, "the renamed one has come apart");
	EXPECT(read_whole(path_of("first"), text, 6) == 6 && memcmp(text, "linked", 6) == 0, "the linked one has come apart");
	EXPECT(read_whole(path_of("moved away/file"), text, 6) == 6 && memcmp(text, "inside", 6) == 0,
	       "the one inside has come apart");
	passed();
}
