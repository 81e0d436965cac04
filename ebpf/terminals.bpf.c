/*
 * What was written at one end of a pseudo terminal and not read at the other, of each master that a process has, and whether more of it has
 * to wait: nothing else can look at it without taking it. drivers/tty/n_tty.c keeps it, with what it makes of it, beside each of the two ends.
 */
#include "kernel.h"

#define SIZE 4096 /* N_TTY_BUF_SIZE */

struct tty_ldisc_ops {
	int num;
} KERNEL_MEMBERS;

struct tty_ldisc {
	struct tty_ldisc_ops *ops;
} KERNEL_MEMBERS;

struct tty_buffer {
	struct tty_buffer *next;
	int commit;
	int read;
} KERNEL_MEMBERS;

struct tty_bufhead {
	struct tty_buffer *head;
} KERNEL_MEMBERS;

struct tty_port {
	struct tty_bufhead buf;
} KERNEL_MEMBERS;

struct tty_struct {
	int index;
	struct {
		u8 stopped;
		u8 tco_stopped;
	} KERNEL_MEMBERS flow;
	struct tty_port *port;
	struct tty_ldisc *ldisc;
	struct tty_struct *link;
	void *disc_data;
} KERNEL_MEMBERS;

struct n_tty_data {
	unsigned long read_head, canon_head, echo_head;
	unsigned char lnext : 1;
	unsigned char push : 1;
	u8 read_buf[SIZE];
	unsigned long read_flags[SIZE / 64];
	unsigned long read_tail, echo_tail;
} KERNEL_MEMBERS;

struct tty_file_private {
	struct tty_struct *tty;
} KERNEL_MEMBERS;

struct inode {
	u32 i_rdev;
} KERNEL_MEMBERS;

struct file {
	struct inode *f_inode;
	void *private_data;
} KERNEL_MEMBERS;

/* As TerminalRecord in migrate-linux/src/terminal_probe.rs reads it: twice this, a buffer and its flags; first for the master's end. */
struct end {
	u32 number; /* the descriptor's */
	u32 bits;
	u64 head, lines, tail; /* places in the buffer that have been passed: of lines, their ends */
};

#define OTHER 1 /* what is said of this end is not all: another line discipline, something still on its way, a ^V, echoes to come */
#define PUSHED 2 /* its last line has not been ended */
#define STOPPED 4 /* what is written at this end has to wait */
#define BY_CALL 8 /* since a call has stopped it (TCOOFF), not a character */

#define PTMX (5 << 20 | 2)

/* A member of a few bits. */
#define BITS(base, member)                                                                                         \
	({                                                                                                         \
		u64 value_ = 0;                                                                                    \
		bpf_probe_read_kernel(&value_, __builtin_preserve_field_info((base)->member, 1),                   \
				      (void *)(base) + __builtin_preserve_field_info((base)->member, 0));          \
		value_ <<= __builtin_preserve_field_info((base)->member, 4);                                       \
		value_ >> __builtin_preserve_field_info((base)->member, 5);                                        \
	})

static INLINE int is_usual(struct tty_struct *tty)
{
	struct tty_ldisc *ldisc = 0;
	struct tty_ldisc_ops *ops = 0;
	int number = -1;

	READ(ldisc, tty->ldisc);
	READ(ops, ldisc->ops);
	READ(number, ops->num);
	return number == 0;
}

/* Something that the line discipline has not been given yet. */
static INLINE int is_on_its_way(struct tty_struct *tty)
{
	struct tty_port *port = 0;
	struct tty_buffer *buffer = 0, *next = 0;
	int commit = 0, read = 0;

	READ(port, tty->port);
	READ(buffer, port->buf.head);
	if (!buffer)
		return 1;
	READ(next, buffer->next);
	READ(commit, buffer->commit);
	READ(read, buffer->read);
	return next || commit != read;
}

static INLINE void write_end(struct seq_file *seq, u32 number, struct tty_struct *tty)
{
	struct end end = { .number = number };
	struct n_tty_data *data = 0;
	unsigned long echo_head = 0, echo_tail = 0;
	u8 piece[256], stopped = 0, by_call = 0;

	READ(data, tty->disc_data);
	READ(end.head, data->read_head);
	READ(end.lines, data->canon_head);
	READ(end.tail, data->read_tail);
	READ(echo_head, data->echo_head);
	READ(echo_tail, data->echo_tail);
	if (!data || !is_usual(tty) || is_on_its_way(tty) || echo_head != echo_tail || BITS(data, lnext))
		end.bits |= OTHER;
	if (BITS(data, push))
		end.bits |= PUSHED;
	READ(stopped, tty->flow.stopped);
	READ(by_call, tty->flow.tco_stopped);
	end.bits |= (stopped ? STOPPED : 0) | (by_call ? BY_CALL : 0);
	bpf_seq_write(seq, &end, sizeof end);
	for (int at = 0; at < SIZE; at += sizeof piece) {
		bpf_probe_read_kernel(piece, sizeof piece, (void *)&data->read_buf + at);
		bpf_seq_write(seq, piece, sizeof piece);
	}
	for (int at = 0; at < SIZE / 8; at += sizeof piece) {
		bpf_probe_read_kernel(piece, sizeof piece, (void *)&data->read_flags + at);
		bpf_seq_write(seq, piece, sizeof piece);
	}
}

SECTION("iter/task_file") int read_terminal(struct bpf_iter__task_file *context)
{
	struct file *file = context->file;
	struct tty_file_private *private = 0;
	struct tty_struct *master = 0, *slave = 0;

	if (!context->task || !file || file->f_inode->i_rdev != PTMX)
		return 0;
	READ(private, file->private_data);
	/* With O_PATH it is nobody's. */
	if (!private)
		return 0;
	READ(master, private->tty);
	READ(slave, master->link);
	if (!master || !slave)
		return 0;
	write_end(context->meta->seq, context->fd, master);
	write_end(context->meta->seq, context->fd, slave);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
