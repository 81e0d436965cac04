/*
 * What a process does while it is watched: which system calls, how often and for how long, which files it opens and whom it talks to.
 * Each is counted in a map with a limit; what does not fit is counted as lost.
 *
 * Linux 6.1 and later, x86_64.
 */
#include "kernel.h"

struct pt_regs {
	unsigned long r10, r9, r8, dx, si, di, orig_ax;
} KERNEL_MEMBERS;

struct inode {
	unsigned short i_mode;
} KERNEL_MEMBERS;

struct file {
	struct inode *f_inode;
	void *private_data;
} KERNEL_MEMBERS;

struct fdtable {
	unsigned int max_fds;
	struct file **fd;
} KERNEL_MEMBERS;

struct files_struct {
	struct fdtable *fdt;
} KERNEL_MEMBERS;

struct in6_addr {
	u8 bytes[16];
};

struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	u16 skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
} KERNEL_MEMBERS;

struct sock {
	struct sock_common __sk_common;
	u16 sk_type;
	u16 sk_protocol;
	struct pid *sk_peer_pid;
} KERNEL_MEMBERS;

struct socket {
	struct sock *sk;
} KERNEL_MEMBERS;

struct sockaddr_un {
	u16 sun_family;
	char sun_path[108];
};

struct unix_address {
	int len;
	struct sockaddr_un name[1];
} KERNEL_MEMBERS;

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
} KERNEL_MEMBERS;

struct task_struct {
	unsigned int __state;
	int exit_state;
	int pid;
	int tgid;
	struct files_struct *files;
	struct pid *thread_pid;
} KERNEL_MEMBERS;

#define BPF_NOEXIST 1
#define CALLS 512
#define PATH 256
#define NAME 108

/* What does not fit, and what is counted besides calls: the places of `counts`. */
enum {
	LOST_CALLS,
	LOST_PATHS,
	LOST_PEERS,
	CHILDREN,
	HUGE_PAGES,
	NOW, /* CLOCK_MONOTONIC of the host when the process was looked at last */
	COUNTS,
};

/* The process, by its PID in the initial PID namespace, and that of whoever asks. */
struct target {
	u32 tgid;
	u32 level; /* of the PID namespace that numbers are told for */
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct target *value;
} target SECTION(".maps");

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[COUNTS];
	u32 *key;
	u64 *value;
} counts SECTION(".maps");

/* A system call that has begun. */
struct begun {
	u64 at; /* CLOCK_MONOTONIC */
	u64 number;
};

/* By thread. */
struct {
	int (*type)[1]; /* BPF_MAP_TYPE_HASH */
	int (*map_flags)[1]; /* BPF_F_NO_PREALLOC */
	int (*max_entries)[32768];
	u32 *key;
	struct begun *value;
} inside SECTION(".maps");

struct call {
	u64 count, failed, ns, longest;
};

/* By number. */
struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[CALLS];
	u32 *key;
	struct call *value;
} calls SECTION(".maps");

/* A path as the program gave it, and what it is relative to: a descriptor, or AT_FDCWD. */
struct path {
	s32 directory;
	u8 path[PATH];
};

struct opened {
	u64 count, failed;
	u32 flags; /* of all of them */
	u32 pad;
};

struct {
	int (*type)[1]; /* BPF_MAP_TYPE_HASH */
	int (*map_flags)[1]; /* BPF_F_NO_PREALLOC */
	int (*max_entries)[4096];
	struct path *key;
	struct opened *value;
} paths SECTION(".maps");

/* Who is at the other end. Ports in the host's order; one that the kernel chose is 0. */
struct peer {
	u16 family, type, protocol, local_port, remote_port, pad;
	u32 pid;        /* unix: who connected or listened */
	u8 local[16], remote[16];
	u8 name[NAME];  /* unix: the path of either end */
};

struct talk {
	u64 calls, received, sent, connected, accepted;
};

struct {
	int (*type)[1]; /* BPF_MAP_TYPE_HASH */
	int (*map_flags)[1]; /* BPF_F_NO_PREALLOC */
	int (*max_entries)[4096];
	struct peer *key;
	struct talk *value;
} peers SECTION(".maps");

/* More than the stack has room for. Nothing else runs here on the same CPU meanwhile: preemption is off. */
struct scratch {
	struct path path;
	struct peer peer;
};

struct {
	int (*type)[6]; /* BPF_MAP_TYPE_PERCPU_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct scratch *value;
} scratches SECTION(".maps");

static INLINE void count(u32 what)
{
	u64 *counter = bpf_map_lookup_elem(&counts, &what);

	if (counter)
		__sync_fetch_and_add(counter, 1);
}

static INLINE struct target *wanted(void)
{
	u32 first = 0;
	struct target *found = bpf_map_lookup_elem(&target, &first);

	if (!found || found->tgid == 0 || bpf_get_current_task_btf()->tgid != found->tgid)
		return 0;
	return found;
}

/* Whose process it is: is run for each of its threads. Those that are in a call already count from here on. */
SECTION("iter/task") int look(struct bpf_iter__task *context)
{
	struct task_struct *task = context->task;
	struct target found = {};
	struct begun begun = {};
	u32 first = 0, tid, now = NOW;
	u64 *counter;

	if (!task)
		return 0;
	found.tgid = task->tgid;
	found.level = bpf_get_current_task_btf()->thread_pid->level;
	bpf_map_update_elem(&target, &first, &found, 0);
	begun.at = bpf_ktime_get_ns();
	counter = bpf_map_lookup_elem(&counts, &now);
	if (counter)
		*counter = begun.at;
	if (task->__state != 0 && !task->exit_state) { /* it sleeps, so its registers are those of its call */
		struct pt_regs *regs = bpf_task_pt_regs(task);
		begun.number = regs->orig_ax;
		tid = task->pid;
		if (begun.number < CALLS)
			bpf_map_update_elem(&inside, &tid, &begun, BPF_NOEXIST);
	}
	bpf_seq_write(context->meta->seq, &begun.at, sizeof begun.at);
	return 0;
}

SECTION("tp_btf/sys_enter") int call_begins(u64 *arguments)
{
	struct begun begun = {};
	u32 tid;

	if (!wanted())
		return 0;
	tid = bpf_get_current_task_btf()->pid;
	begun.number = arguments[1];
	if (begun.number >= CALLS || begun.number == 60 || begun.number == 231) /* exit, exit_group: they do not return */
		return 0;
	begun.at = bpf_ktime_get_ns();
	if (bpf_map_update_elem(&inside, &tid, &begun, 0))
		count(LOST_CALLS);
	return 0;
}

static INLINE void note_path(struct scratch *scratch, s32 directory, u64 path, u64 flags, long result)
{
	struct path *key = &scratch->path;
	struct opened *known, new = {};

	__builtin_memset(key, 0, sizeof *key);
	if (bpf_probe_read_user_str(key->path, PATH, (void *)path) <= 0) {
		count(LOST_PATHS);
		return;
	}
	key->directory = key->path[0] == '/' ? -100 : directory;
	known = bpf_map_lookup_elem(&paths, key);
	if (!known) {
		bpf_map_update_elem(&paths, key, &new, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&paths, key);
	}
	if (!known) {
		count(LOST_PATHS);
		return;
	}
	__sync_fetch_and_add(&known->count, 1);
	if (result < 0)
		__sync_fetch_and_add(&known->failed, 1);
	else
		known->flags |= flags;
}

/* The socket behind a descriptor of this process; 0: it is none. */
static INLINE struct sock *socket_of(u32 number)
{
	struct fdtable *table = bpf_get_current_task_btf()->files->fdt;
	struct file *file = 0;
	struct inode *inode = 0;
	struct socket *socket = 0;
	struct sock *sk = 0;
	u16 mode = 0;

	if (number >= table->max_fds)
		return 0;
	bpf_probe_read_kernel(&file, sizeof file, table->fd + number);
	if (!file)
		return 0;
	bpf_probe_read_kernel(&inode, sizeof inode, &file->f_inode);
	bpf_probe_read_kernel(&mode, sizeof mode, &inode->i_mode);
	if ((mode & 0170000) != 0140000) /* S_IFSOCK */
		return 0;
	bpf_probe_read_kernel(&socket, sizeof socket, &file->private_data);
	bpf_probe_read_kernel(&sk, sizeof sk, &socket->sk);
	return sk;
}

static INLINE u16 turned(u16 port)
{
	return port >> 8 | port << 8;
}

static INLINE int unix_name(struct peer *key, struct sock *sk)
{
	struct unix_address *address = 0;
	u32 length = 0;

	bpf_probe_read_kernel(&address, sizeof address, &((struct unix_sock *)sk)->addr);
	if (!address)
		return 0;
	bpf_probe_read_kernel(&length, sizeof length, &address->len);
	if (length <= 2)
		return 0;
	length -= 2; /* sun_family */
	if (length > NAME)
		length = NAME;
	bpf_probe_read_kernel(key->name, length, (u8 *)&address->name + 2);
	return 1;
}

static INLINE u32 number_for(struct target *asked, struct pid *pid)
{
	u32 level = 0;

	bpf_probe_read_kernel(&level, sizeof level, &pid->level);
	return level < asked->level ? 0 : number(pid, asked->level);
}

/* An address that the program gave or got. */
static INLINE void explicit_address(struct peer *key, u64 address)
{
	u16 head[2] = {};

	if (!address || bpf_probe_read_user(head, sizeof head, (void *)address) || head[0] != key->family)
		return;
	key->remote_port = turned(head[1]);
	if (key->family == 2)
		bpf_probe_read_user(key->remote, 4, (void *)(address + 4));
	else if (key->family == 10)
		bpf_probe_read_user(key->remote, 16, (void *)(address + 8));
}

enum way { RECEIVED, SENT, CONNECTED, ACCEPTED };

static INLINE void note_peer(struct target *asked, struct scratch *scratch, u32 number, u64 address, long result, enum way way)
{
	struct sock *sk = socket_of(number), *other = 0;
	struct sock_common *common;
	struct peer *key = &scratch->peer;
	struct talk *known, new = {};
	struct pid *pid = 0;

	if (!sk)
		return;
	__builtin_memset(key, 0, sizeof *key);
	common = &sk->__sk_common;
	bpf_probe_read_kernel(&key->family, sizeof(u16), &common->skc_family);
	bpf_probe_read_kernel(&key->type, sizeof(u16), &sk->sk_type);
	bpf_probe_read_kernel(&key->protocol, sizeof(u16), &sk->sk_protocol);
	switch (key->family) {
	case 1: /* AF_UNIX */
		bpf_probe_read_kernel(&other, sizeof other, &((struct unix_sock *)sk)->peer);
		bpf_probe_read_kernel(&pid, sizeof pid, &sk->sk_peer_pid);
		if (pid)
			key->pid = number_for(asked, pid);
		if (!other || !unix_name(key, other))
			unix_name(key, sk);
		break;
	case 2:  /* AF_INET */
	case 10: /* AF_INET6 */
		bpf_probe_read_kernel(&key->local_port, sizeof(u16), &common->skc_num);
		bpf_probe_read_kernel(&key->remote_port, sizeof(u16), &common->skc_dport);
		key->remote_port = turned(key->remote_port);
		if (key->family == 2) {
			bpf_probe_read_kernel(key->local, 4, &common->skc_rcv_saddr);
			bpf_probe_read_kernel(key->remote, 4, &common->skc_daddr);
		} else {
			bpf_probe_read_kernel(key->local, 16, &common->skc_v6_rcv_saddr);
			bpf_probe_read_kernel(key->remote, 16, &common->skc_v6_daddr);
		}
		if (key->remote_port == 0)
			explicit_address(key, address);
		/* Else every connection would be a peer of its own. */
		if (key->local_port >= 32768 && key->remote_port && key->remote_port < 32768)
			key->local_port = 0;
		else if (key->remote_port >= 32768 && key->local_port && key->local_port < 32768)
			key->remote_port = 0;
		break;
	}
	known = bpf_map_lookup_elem(&peers, key);
	if (!known) {
		bpf_map_update_elem(&peers, key, &new, BPF_NOEXIST);
		known = bpf_map_lookup_elem(&peers, key);
	}
	if (!known) {
		count(LOST_PEERS);
		return;
	}
	__sync_fetch_and_add(&known->calls, 1);
	switch (way) {
	case RECEIVED:
		__sync_fetch_and_add(&known->received, result);
		break;
	case SENT:
		__sync_fetch_and_add(&known->sent, result);
		break;
	case CONNECTED:
		__sync_fetch_and_add(&known->connected, 1);
		break;
	case ACCEPTED:
		__sync_fetch_and_add(&known->accepted, 1);
		break;
	}
}

SECTION("tp_btf/sys_exit") int call_ends(u64 *arguments)
{
	struct target *asked = wanted();
	struct pt_regs *regs = bpf_task_pt_regs(bpf_get_current_task_btf());
	long result = arguments[1];
	struct scratch *scratch;
	struct begun *begun;
	struct call *call;
	u32 first = 0, tid, number;
	u64 took, a, b, c, d, e, flags = 0, address = 0, bytes, socket;
	enum way way;

	if (!asked)
		return 0;
	tid = bpf_get_current_task_btf()->pid;
	begun = bpf_map_lookup_elem(&inside, &tid);
	if (!begun)
		return 0;
	number = begun->number;
	took = bpf_ktime_get_ns() - begun->at;
	bpf_map_delete_elem(&inside, &tid);
	call = bpf_map_lookup_elem(&calls, &number);
	scratch = bpf_map_lookup_elem(&scratches, &first);
	if (!call || !scratch)
		return 0;
	__sync_fetch_and_add(&call->count, 1);
	__sync_fetch_and_add(&call->ns, took);
	if (result < 0)
		__sync_fetch_and_add(&call->failed, 1);
	if (took > call->longest)
		call->longest = took;

	a = regs->di;
	b = regs->si;
	c = regs->dx;
	d = regs->r10;
	e = regs->r8;
	switch (number) {
	case 2: /* open */
		note_path(scratch, -100, a, b, result);
		return 0;
	case 85: /* creat */
		note_path(scratch, -100, a, 1, result);
		return 0;
	case 257: /* openat */
		note_path(scratch, a, b, c, result);
		return 0;
	case 437: /* openat2 */
		bpf_probe_read_user(&flags, sizeof flags, (void *)c);
		note_path(scratch, a, b, flags, result);
		return 0;
	}
	switch (number) {
	case 42: /* connect */
		if (result != 0 && result != -115) /* EINPROGRESS */
			return 0;
		way = CONNECTED;
		socket = a;
		address = b;
		break;
	case 43: /* accept */
	case 288: /* accept4 */
		way = ACCEPTED;
		socket = result;
		break;
	case 0: /* read */
	case 19: /* readv */
	case 299: /* recvmmsg */
		way = RECEIVED;
		socket = a;
		break;
	case 1: /* write */
	case 20: /* writev */
	case 40: /* sendfile */
	case 307: /* sendmmsg */
		way = SENT;
		socket = a;
		break;
	case 44: /* sendto */
		way = SENT;
		socket = a;
		address = e;
		break;
	case 45: /* recvfrom */
		way = RECEIVED;
		socket = a;
		address = e;
		break;
	case 46: /* sendmsg */
	case 47: /* recvmsg */
		way = number == 46 ? SENT : RECEIVED;
		socket = a;
		bpf_probe_read_user(&address, sizeof address, (void *)b); /* msg_name */
		break;
	case 9: /* mmap */
		if (result >= 0 && d & 0x40000) /* MAP_HUGETLB */
			count(HUGE_PAGES);
		return 0;
	case 56: /* clone */
	case 435: /* clone3 */
		if (number == 56)
			flags = a;
		else
			bpf_probe_read_user(&flags, sizeof flags, (void *)a);
		if (flags & 0x10000) /* CLONE_THREAD */
			return 0;
		/* falls through */
	case 57: /* fork */
	case 58: /* vfork */
		if (result > 0)
			count(CHILDREN);
		return 0;
	default:
		return 0;
	}
	if (way == CONNECTED || way == ACCEPTED || number == 299 || number == 307)
		bytes = 0; /* the last two tell messages, not bytes */
	else
		bytes = result;
	if (result >= 0 || way == CONNECTED)
		note_peer(asked, scratch, socket, address, bytes, way);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
