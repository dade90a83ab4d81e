/* The one table of keys and values: chained hashing, grown by doubling. */
#ifndef KVD_TABLE_H
#define KVD_TABLE_H

int table_start(void);
void table_free(void);
int table_set(const char *key, const char *value);
const char *table_get(const char *key);
int table_remove(const char *key); /* how many keys went: 0 or 1 */
int table_lock(const char *key, int locked); /* how many keys: 0 or 1 */
int table_is_locked(const char *key);        /* 0 where there is no such key */
void table_clear(void);
int table_count(void);

/* All keys, sorted, behind them a NULL. NULL when memory is short. */
const char **table_keys(void);
void table_free_keys(const char **keys);

/* One line for each key, sorted. */
int table_dump(const char *path);

#endif
