/*
 * memcached 1.6.38 to 1.6.45. What a request left in its connection moves to its
 * response, a store under way is counted, and replies that wait in a response's own
 * buffer are found where that lies now.
 */

#include "kairos_transform.h"

/* Of the versions' headers, in both alike. */
enum { conn_nread = 6 };	/* enum conn_states */
enum { binary_prot = 4 };	/* enum protocol */

/* LIBEVENT_THREAD up to stats.slab_stats: a lock before it, and 28 counters. */
struct thread {
	unsigned char before[640];
	struct {
		unsigned long set_cmds, others[7];
	} slab_stats[64];
};

/* item up to the number of its slab class. */
struct item {
	unsigned char before[40];
	unsigned char class_and_lru;
};

/*
 * 1.6.38 counts a set when its value is there (complete_nread_ascii), 1.6.45 when it
 * begins (process_update_cmd_start, process_mset_cmd_start). Where bytes of the value
 * are missing the old version has not counted it, and the new one will not. Where none
 * is missing it may be in the middle of complete_nread_ascii, and has counted then. The
 * binary protocol counts at the end in both.
 */
static void
count_store(struct kairos_new_conn *conn)
{
	const struct item *item = conn->item;
	struct thread *thread = (struct thread *)conn->thread;

	if (conn->state == conn_nread && conn->protocol != binary_prot &&
	    !conn->item_malloced && item && conn->rlbytes > 0)
		thread->slab_stats[item->class_and_lru & 63].set_cmds++;
}

static void
move_request(struct kairos_old_conn *old, struct kairos_new_conn *new)
{
	struct kairos_new__mc_resp *resp = new->resp;

	/* The last response is that of the request under way. */
	if (resp) {
		resp->noreply = old->noreply;
		resp->mset_res = old->mset_res;
		resp->set_stale = old->set_stale;
	}
	/* Read by what ends a read from external storage, and by nothing else. */
	for (resp = new->resp_head; resp; resp = resp->next)
		resp->binary_prot = new->protocol == binary_prot && resp->io_pending;
	count_store(new);
}

/* The distance from `from` to `to`, if `at` lies in the buffer that began at `from`. */
static long
shift(const void *at, const char *from, const char *to, unsigned long size)
{
	unsigned long into = (unsigned long)at - (unsigned long)from;

	return into <= size ? to - from : 0;
}

/*
 * What is sent may lie in the response itself, whose buffer now begins elsewhere.
 * Responses are elements of a bundle. If that stayed where it was, `old` is a copy, and
 * the bundle tells where the response was.
 */
static void
find_buffer(struct kairos_old__mc_resp *old, struct kairos_new__mc_resp *new)
{
	const struct kairos_new__mc_resp_bundle *bundle = new->bundle;
	const struct kairos_old__mc_resp *was;
	long moved;

	if (new->free || !bundle)
		return;
	was = (const void *)((const char *)bundle + sizeof(struct kairos_old__mc_resp_bundle));
	was += new - (const struct kairos_new__mc_resp *)(bundle + 1);
	for (unsigned int i = 0; i < new->iovcnt; i++) {
		const void *base = new->iov[i].iov_base;

		moved = shift(base, old->wbuf, new->wbuf, sizeof old->wbuf);
		if (!moved)
			moved = shift(base, was->wbuf, new->wbuf, sizeof old->wbuf);
		new->iov[i].iov_base = (char *)base + moved;
	}
}

void
kairos_transform(void)
{
	kairos_each__mc_resp(find_buffer);
	kairos_each_conn(move_request);
}
