/*
 * memcached 1.6.38 to 1.6.45. What a request left in its connection moves to its
 * response, and a store under way is counted.
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

void
kairos_transform(void)
{
	kairos_each_conn(move_request);
}
