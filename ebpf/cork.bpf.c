/*
 * What a UDP socket holds back (UDP_CORK, MSG_MORE): the data, where it goes and how, of one descriptor, in pieces. net/ipv4/ip_output.c and
 * net/ipv6/ip6_output.c keep it, as packets that lack their headers.
 *
 * Most of the data is in pages, which the kernel reaches where it has all memory mapped, one page behind another. Their descriptions
 * (struct page) are one behind another too, so that a page is at its description's address times a number, plus a constant of this boot.
 * That constant is looked for: by a page of which it is known what is in it.
 *
 * Linux 6.1 and later.
 */
#include "kernel.h"

static struct socket *(*bpf_sock_from_file)(struct file *file) = (void *)162;

struct page {
	unsigned long flags;
} KERNEL_MEMBERS;

/* Of each kernel the same, by different names (struct bio_vec). */
struct frag {
	u64 page;
	u32 length, offset;
};

struct skb_shared_info {
	u8 nr_frags;
	struct sk_buff *frag_list;
	struct frag frags[1];
} KERNEL_MEMBERS;

struct sk_buff {
	struct sk_buff *next;
	u32 len, data_len;
	u16 transport_header;
	u32 end;
	u8 *head, *data;
	u32 truesize;
} KERNEL_MEMBERS;

struct sk_buff_head {
	struct sk_buff *next;
} KERNEL_MEMBERS;

struct sock {
	struct sk_buff_head sk_write_queue;
	u16 sk_protocol;
} KERNEL_MEMBERS;

struct socket {
	struct sock *sk;
} KERNEL_MEMBERS;

struct net_device {
	int ifindex;
} KERNEL_MEMBERS;

struct dst_entry {
	struct net_device *dev;
} KERNEL_MEMBERS;

struct inet_cork {
	u32 flags;
	struct dst_entry *dst;
	u8 ttl;
	short tos;
	u16 gso_size;
	u64 transmit_time;
	u32 mark;
} KERNEL_MEMBERS;

struct in6_addr {
	u8 bytes[16];
};

union flowi_uli {
	struct {
		u16 dport;
	} KERNEL_MEMBERS ports;
} KERNEL_MEMBERS;

struct flowi_common {
	int flowic_oif;
} KERNEL_MEMBERS;

struct flowi4 {
	u32 saddr, daddr;
	union flowi_uli uli;
} KERNEL_MEMBERS;

struct flowi6 {
	struct flowi_common __fl_common;
	struct in6_addr daddr, saddr;
	u32 flowlabel;
	union flowi_uli uli;
} KERNEL_MEMBERS;

struct flowi {
	union {
		struct flowi4 ip4;
		struct flowi6 ip6;
	} KERNEL_MEMBERS u;
} KERNEL_MEMBERS;

struct inet_cork_full {
	struct inet_cork base;
	struct flowi fl;
} KERNEL_MEMBERS;

struct inet6_cork {
	void *opt;
	u8 hop_limit, tclass;
} KERNEL_MEMBERS;

struct ipv6_pinfo {
	struct inet6_cork cork;
} KERNEL_MEMBERS;

struct inet_sock {
	struct ipv6_pinfo *pinet6;
	struct inet_cork_full cork;
} KERNEL_MEMBERS;

struct udp_sock {
	int pending;
	u16 len;
} KERNEL_MEMBERS;

#define AF_INET 2
#define AF_INET6 10
#define IPCORK_OPT 1
#define UDP_HEADER 8

/* So much data in a piece; a power of two. */
#define SIZE 16384
/* So many parts of packets are looked at. */
#define PARTS 65536
#define GIB 30

#define UDP 17 /* IPPROTO_UDP */
#define UDPLITE 136

/* Of which descriptor, and which part of its data. */
struct wanted {
	u32 number;
	u32 first;
	u64 constant; /* 0: not known yet */
	u64 known[2]; /* what the first page begins with */
	u64 reach; /* GiB: no two places of memory are further from each other; 0: the constant is not looked for */
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct wanted *value;
} wanted SECTION(".maps");

/* As Raw in migrate-linux/src/cork_probe.rs reads it. */
struct record {
	u64 constant; /* found */
	u32 family; /* 0: nothing is held back */
	u32 length; /* with the header */
	u32 seen; /* of the data, without it */
	u32 memory;
	u32 bits;
	u32 interface; /* IPv4: where the way leads that was chosen; IPv6: that was asked for */
	s32 tos, ttl; /* -1: as the socket has it */
	u32 segment, mark;
	u32 label; /* as in a packet, and with the class */
	u32 port; /* as in a packet */
	u8 from[16], to[16];
};

#define UNREADABLE 1
#define OPTIONS 2
#define TIMED 4

struct walk {
	struct record record;
	u8 data[2 * SIZE]; /* the half of it; the kernel wants it said that nothing is written behind */
	struct wanted wanted;
	u64 sk;
	u64 list, skb, shared;
	u32 part, parts; /* 0: the packet's first part is not in pages */
	u32 skip; /* header before the data */
};

struct {
	int (*type)[2]; /* BPF_MAP_TYPE_ARRAY */
	int (*max_entries)[1];
	u32 *key;
	struct walk *value;
} walks SECTION(".maps");

/* The next `count` bytes of the data. */
static INLINE void take(struct walk *walk, u64 from, u32 count)
{
	u32 begin = walk->record.seen, first = walk->wanted.first, skip = 0, to, size;

	walk->record.seen += count;
	if (begin < first)
		skip = first - begin;
	if (skip >= count || begin >= first + SIZE)
		return;
	to = begin + skip - first;
	size = count - skip;
	if (size > SIZE - to)
		size = SIZE - to;
	/* As in threads.bpf.c: its bounds are checked where they count. */
	asm volatile("" : "+r"(to), "+r"(size));
	if (to >= SIZE || size > SIZE || bpf_probe_read_kernel(walk->data + to, size, (void *)(from + skip)))
		walk->record.bits |= UNREADABLE;
}

struct search {
	u64 at; /* the page, if the constant were the least that it can be */
	u64 known[2];
	u64 found;
};

static long look_at(u32 step, struct search *search)
{
	u64 content[2] = {};

	if (bpf_probe_read_kernel(content, sizeof content, (void *)(search->at + ((u64)step << GIB))) == 0 &&
	    content[0] == search->known[0] && content[1] == search->known[1]) {
		search->found = search->at + ((u64)step << GIB);
		return 1;
	}
	return 0;
}

/*
 * All of memory is mapped behind some GiB's beginning (kernel_randomize_memory, arch/x86/mm/kaslr.c), and the socket is in it. Looked for
 * upwards: between where the mapping can begin at the earliest and the page there is nothing else than memory (Documentation/arch/x86/x86_64/mm.rst).
 */
static INLINE void search(struct walk *walk, u64 page, u32 offset)
{
	u64 least = walk->sk >> 47 == 0x1ffff ? 0xffff888000000000 : 0xff11000000000000;
	u64 reach = walk->wanted.reach << GIB, begin, place = page * 64 + offset;
	struct search search = { .known = { walk->wanted.known[0], walk->wanted.known[1] } };

	begin = walk->sk - least > reach ? walk->sk - reach : least;
	begin = begin >> GIB << GIB;
	search.at = begin + (place & ((1ULL << GIB) - 1));
	bpf_loop(walk->wanted.reach * 2 + 1, look_at, &search, 0);
	if (search.found)
		walk->record.constant = search.found - place;
}

/* The next part of the packet at which it is. 1: there is none. */
static long take_part(u32 step, void *unused)
{
	u32 zero = 0;
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	struct sk_buff *skb;
	struct skb_shared_info *shared;

	if (!walk)
		return 1;
	skb = (struct sk_buff *)walk->skb;
	if (walk->part == 0) {
		u8 *head = 0, *data = 0, count = 0;
		u16 transport = 0;
		u32 end = 0, length = 0, in_pages = 0, memory = 0;
		struct sk_buff *more = 0;
		u64 from;

		if (!skb || walk->skb == walk->list)
			return 1;
		READ(head, skb->head);
		READ(data, skb->data);
		READ(transport, skb->transport_header);
		READ(end, skb->end);
		READ(length, skb->len);
		READ(in_pages, skb->data_len);
		READ(memory, skb->truesize);
		shared = (struct skb_shared_info *)(head + end);
		READ(count, shared->nr_frags);
		READ(more, shared->frag_list);
		walk->shared = (u64)shared;
		walk->parts = count;
		walk->record.memory += memory;
		from = (u64)head + transport + walk->skip;
		walk->skip = 0;
		data += length - in_pages;
		if (more || in_pages > length || (u64)data < from || (u64)data - from > 0x10000)
			walk->record.bits |= UNREADABLE;
		else
			take(walk, from, (u64)data - from);
	} else {
		struct frag frag = {};
		u64 size = __builtin_preserve_type_info(*(struct page *)0, 1);

		shared = (struct skb_shared_info *)walk->shared;
		bpf_probe_read_kernel(&frag, sizeof frag, (char *)&shared->frags + (walk->part - 1) * sizeof frag);
		if (walk->wanted.reach && !walk->record.constant && size == 64)
			search(walk, frag.page, frag.offset);
		/* The lowest bit: it is a device's memory (net_iov). */
		if (!walk->wanted.constant || frag.page & 1 || size != 64 || frag.length > 0x10000)
			walk->record.bits |= UNREADABLE;
		else
			take(walk, frag.page * 64 + walk->wanted.constant + frag.offset, frag.length);
	}
	if (walk->part++ < walk->parts)
		return 0;
	walk->part = 0;
	READ(walk->skb, skb->next);
	return 0;
}

static INLINE void describe(struct record *record, struct inet_sock *inet)
{
	struct inet_cork *base = &inet->cork.base;
	struct flowi4 *four = &inet->cork.fl.u.ip4;
	struct flowi6 *six = &inet->cork.fl.u.ip6;
	struct ipv6_pinfo *info = 0;
	struct dst_entry *way = 0;
	struct net_device *device = 0;
	u32 flags = 0;
	u64 time = 0;
	u16 port = 0, segment = 0;
	u8 ttl = 0, class = 0;
	short tos = 0;
	void *options = 0;

	READ(record->mark, base->mark);
	READ(segment, base->gso_size);
	READ(time, base->transmit_time);
	record->segment = segment;
	record->bits |= time ? TIMED : 0;
	if (record->family == AF_INET) {
		READ(flags, base->flags);
		record->bits |= flags & IPCORK_OPT ? OPTIONS : 0;
		READ(ttl, base->ttl);
		READ(tos, base->tos);
		record->ttl = ttl ? ttl : -1;
		record->tos = tos;
		bpf_probe_read_kernel(record->from, 4, &four->saddr);
		bpf_probe_read_kernel(record->to, 4, &four->daddr);
		READ(port, four->uli.ports.dport);
		READ(way, base->dst);
		READ(device, way->dev);
		READ(record->interface, device->ifindex);
	} else {
		READ(info, inet->pinet6);
		READ(options, info->cork.opt);
		record->bits |= options ? OPTIONS : 0;
		READ(ttl, info->cork.hop_limit);
		READ(class, info->cork.tclass);
		record->ttl = ttl;
		record->tos = class;
		bpf_probe_read_kernel(record->from, 16, &six->saddr);
		bpf_probe_read_kernel(record->to, 16, &six->daddr);
		READ(record->label, six->flowlabel);
		READ(port, six->uli.ports.dport);
		READ(record->interface, six->__fl_common.flowic_oif);
	}
	record->port = port;
}

SECTION("iter/task_file") int read_corked(struct bpf_iter__task_file *context)
{
	struct file *file = context->file;
	u32 zero = 0;
	struct wanted *what = bpf_map_lookup_elem(&wanted, &zero);
	struct walk *walk = bpf_map_lookup_elem(&walks, &zero);
	struct socket *socket;
	struct udp_sock *udp;
	struct sock *sk = 0;
	u16 length = 0, protocol = 0;

	if (!context->task || !file || !what || !walk || context->fd != what->number)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	READ(sk, socket->sk);
	READ(protocol, sk->sk_protocol);
	if (!sk || (protocol != UDP && protocol != UDPLITE))
		return 0;
	udp = (struct udp_sock *)sk;
	__builtin_memset(&walk->record, 0, sizeof walk->record);
	walk->wanted = *what;
	walk->sk = (u64)sk;
	walk->part = 0;
	READ(walk->record.family, udp->pending);
	READ(length, udp->len);
	walk->record.length = length;
	if (walk->record.family == AF_INET || walk->record.family == AF_INET6) {
		describe(&walk->record, (struct inet_sock *)sk);
		walk->list = (u64)&sk->sk_write_queue;
		READ(walk->skb, sk->sk_write_queue.next);
		walk->skip = UDP_HEADER;
		bpf_loop(PARTS, take_part, 0, 0);
	}
	bpf_seq_write(context->meta->seq, &walk->record, sizeof walk->record + SIZE);
	return 0;
}

char LICENSE[] SECTION("license") = "Dual MIT/GPL";
