#include "kairos_transform.h"

struct entry;
extern struct entry **buckets;
extern unsigned int bucket_count;
unsigned int hash_key(const char *key);
void link_entry(struct entry *entry, unsigned int hash);

static void link_anew(struct kairos_old_entry *old, struct kairos_new_entry *new)
{
    (void)old;
    link_entry((struct entry *)new, hash_key(new->key));
}

/* Makes trees of the entries that the buckets' lists held. */
void kairos_transform(void)
{
    for (unsigned int i = 0; i < bucket_count; i++)
        buckets[i] = 0;
    kairos_each_entry(link_anew);
}
